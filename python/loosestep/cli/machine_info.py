"""What this machine offers, what is installed, and a self-test of the native core."""

from __future__ import annotations

import copy
import inspect
import platform
from importlib import metadata, util
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep import _core, ops
from loosestep.cli import host_collectives
from loosestep.cuda import device as gpu
from loosestep.foundation import units
from loosestep.runtime import banner

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

ELEMENTS = 1 << 24  # of float32: 64 MiB, more than caches hold
REPEATS = 5
LENGTHS = (0, 1, 17, 4097)  # nothing, less than a vector, a vector and a rest, a block and a rest


class Package(NamedTuple):
    """An optional package, and what it is used for."""

    module: str
    package: str
    use: str
    get: str


PARTS = (
    Package("sklearn", "scikit-learn", "the digits", 'pip install "loosestep[demo]"'),
    Package("matplotlib", "matplotlib", "the picture of --out", 'pip install "loosestep[demo]"'),
    Package("threadpoolctl", "threadpoolctl", "one BLAS thread a worker", "pip install threadpoolctl"),
    Package("torch", "torch", "a rival in the benchmarks", 'pip install "loosestep[bench]"'),
    Package("mpi4py", "mpi4py", "workers in processes", 'pip install "loosestep[mpi]"'),
    Package("cupy", "cupy", "ops on a GPU", 'pip install "loosestep[cuda13]", or cuda12'),
)


def inspect_machine() -> dict[str, Any]:
    """Return all facts, ready for JSON. Rates are bytes read and written a second."""
    versions = {name: metadata.version(name) for name in ("loosestep", "numpy")}
    return {
        **versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "core": dict(_core.info()),
        "rates": {"in_place": in_place_rate(), "copy": copy_rate()},
        "collectives": host_collectives.inspect(),
        "gpu": gpu.inspect(),
        "parts": [{**part._asdict(), "version": version_of(part)} for part in PARTS],
        "self_test": self_test(),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return the facts as text."""
    core, tested = found["core"], found["self_test"]
    count = units.times(tested["checked"], "check")
    verdict = f"{count}, failed: {', '.join(tested['failed'])}" if tested["failed"] else f"{count}, all passed"
    facts = {
        "loosestep": f"{found['loosestep']}, Python {found['python']}, numpy {found['numpy']}, {found['system']}",
        "instruction set": f"{core['isa']} (this build and machine have {', '.join(core['isas'])})",
        "threads": f"{core['threads']} on {units.times(core['cores'], 'core')}",
        "in place": f"{units.size(found['rates']['in_place'])}/s read and written, two arrays updated",
        "copy": f"{units.size(found['rates']['copy'])}/s read and written",
        "one host": host_collectives.as_text(found["collectives"]),
        "GPU": _gpu(found["gpu"]),
        **{part["package"]: _part(part) for part in found["parts"]},
        "self-test": verdict,
    }
    return banner.block(facts)


def _gpu(gpu: dict[str, Any]) -> str:
    kept = f"{units.times(gpu['kernels'], 'compiled kernel')} kept, {units.size(gpu['kernel_bytes'])}"
    if gpu["name"] is None:
        return f"{gpu['why']} ({kept})"
    copied = gpu["why"] if gpu["copy"] is None else f"copies at {units.size(gpu['copy'])}/s read and written"
    return f"{gpu['name']}: {copied} ({kept})"


def _part(part: dict[str, Any]) -> str:
    there = part["version"] or f"not installed: {part['get']}"
    return f"{there} ({part['use']})"


def version_of(part: Package) -> str | None:
    """Return the version of an optional package without importing it; None where it is not installed."""
    if util.find_spec(part.module) is None:
        return None
    try:
        return metadata.version(part.package)
    except metadata.PackageNotFoundError:  # installed under another name, as cupy-cuda12x is
        return "installed"


def in_place_rate() -> float:
    """Return the rate of `elastic`: two arrays read and written."""
    x, c = (np.ones(ELEMENTS, np.float32) for _ in range(2))
    return 4 * x.nbytes / _seconds(lambda: ops.elastic(x, c, 0.1))


def copy_rate() -> float:
    """Return the rate of `copy`: one array read, another written."""
    x, out = (np.ones(ELEMENTS, np.float32) for _ in range(2))
    return 2 * x.nbytes / _seconds(lambda: ops.copy(x, out))


def _seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken)


def self_test() -> dict[str, Any]:
    """Compare the native core bit by bit with the specification: every op, type and length on random numbers."""
    cases = [(name, dtype, length) for name in ops.specification for dtype in ("f4", "f8") for length in LENGTHS]
    failed = [
        f"{name} ({np.dtype(dtype)}, {length})"
        for name, dtype, length in cases
        if not _agrees(name, dtype, length)
    ]
    return {"checked": len(cases), "failed": failed}


def _agrees(name: str, dtype: DTypeLike, length: int) -> bool:
    given = _arguments(name, dtype, length)
    wanted = copy.deepcopy(given)
    results = getattr(ops, name)(*given), ops.specification[name](*wanted)
    return _bits(results[0], given) == _bits(results[1], wanted)


def _arguments(name: str, dtype: DTypeLike, length: int) -> list[Any]:
    """Return an argument for every parameter, by its annotation."""
    random = np.random.default_rng(length)
    made: dict[str, Callable[[], Any]] = {
        "Buffer": lambda: random.random(length).astype(dtype),  # not negative: Adam takes a root
        "Sequence[Buffer]": lambda: [random.random(length).astype(dtype) for _ in range(3)],
        "int": lambda: 3,
        "float": lambda: 0.3,
        "Sequence[int]": lambda: [0, length // 3, length],
        "Sequence[float]": lambda: [0.2, 0.3, 0.5],
        "Sequence[Sequence[float]]": lambda: [[0.2, 0.3, 0.5]] * 3,
    }
    parameters = inspect.signature(ops.specification[name]).parameters.values()
    return [made[str(parameter.annotation).removesuffix(" | None")]() for parameter in parameters]


def _bits(result: object, arguments: list[Any]) -> list[object]:
    arrays = [each for one in arguments for each in (one if isinstance(one, list) else [one])]
    return [repr(result), *(np.asarray(array).tobytes() for array in arrays)]
