"""Arithmetic on flat buffers, in place: the kernels by name.

The body of an op is its specification. The public name is the native function itself (on small buffers a
Python wrapper would cost more than the work); the body stays in `specification`, is what runs where the
native core lacks the op, and gives the same bits.

Buffers are contiguous numpy arrays, all float32 or all float64 and of one length, whatever their shape.
Nothing is ever converted or copied: anything else is a `TypeError` or `ValueError`. Scalars are rounded to
the buffers' type once. A buffer that is written overlaps no other, except that `out` may be one that is read.

Buffers on a device (CuPy arrays, torch CUDA tensors; float16 and bfloat16 too) are updated there, by the
same names, on the caller's stream: `loosestep.cuda`, docs/cuda.md.
"""

from loosestep.foundation.buffers import Buffer as Buffer
from loosestep.ops import noise, reductions
from loosestep.ops.elementwise import *  # noqa: F403
from loosestep.ops.registry import exact as exact
from loosestep.ops.registry import op as op
from loosestep.ops.registry import racy as racy
from loosestep.ops.registry import specification as specification
from loosestep.ops.updates import *  # noqa: F403

dot, norm, norms = op(reductions.dot), op(reductions.norm), op(reductions.norms)
all_finite = op(reductions.all_finite)
normal, add_normal, langevin = op(noise.normal), op(noise.add_normal), op(noise.langevin)
