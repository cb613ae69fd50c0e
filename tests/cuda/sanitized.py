"""What compute-sanitizer watches: a test or more of every kernel; every buffer is an allocation of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loosestep.cuda.launch import cupy

CHOSEN = "(codecs and words) or passes or (faces and (20000 or finite)) or (rules and (copy or adam))"

if __name__ == "__main__":
    cupy().cuda.set_allocator(None)  # in a pool, what lies beyond a buffer is memory too
    sys.exit(pytest.main(["-q", "-n0", "-m", "gpu", "-k", CHOSEN, str(Path(__file__).parent)]))
