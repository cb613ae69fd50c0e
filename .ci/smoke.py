#!/usr/bin/env python3
"""Try the loosestep that is installed, as a user would: it must run where no compiler and no source is.

    python .ci/smoke.py

Trains in threads and in the simulator, asserts that both have the same bits, and compares two strategies in the
shell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    print(f"smoke: {text}", flush=True)


def shell(*arguments: str) -> str:
    """Run `loosestep` beside this Python, away from any checkout; return what it printed."""
    command = Path(sysconfig.get_path("scripts"), "loosestep")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([command, *arguments], cwd=folder, text=True, capture_output=True, timeout=300)
    if done.returncode:
        sys.exit(
            f"smoke: loosestep {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def train(on: Any) -> Any:
    """Return the result of a short run of local SGD on made-up rows."""
    import numpy as np

    import loosestep as ls

    rows = np.random.default_rng(0).normal(size=(400, 5))
    targets = rows @ np.arange(5.0)

    def gradient(x: Any, batch: Any) -> Any:
        a, y = batch
        return a.T @ (a @ x - y) / len(y)

    def batches(rank: int, size: int) -> Any:
        a, y = rows[rank::size], targets[rank::size]
        for step in range(100):
            pick = slice(step * 10 % len(y), step * 10 % len(y) + 10)
            yield a[pick], y[pick]

    return ls.run(ls.LocalSGD(period=4), gradient, np.zeros(5), batches, optimizer=ls.SGD(0.1), on=on)


def main() -> None:
    import loosestep as ls
    from loosestep import _core

    package = Path(ls.__file__).parent
    assert ls.__version__ == version("loosestep"), (ls.__version__, version("loosestep"))
    assert "site-packages" in package.parts, f"this is no installed package: {package}"
    assert sorted(file.name for file in (package / "_cuda").iterdir()) == ["kernels", "rules"]
    assert list((package / "_cuda" / "kernels").glob("*.cu")), "the GPU's kernels are missing"
    assert (package / "_cuda" / "rules" / "all.hpp").exists(), "the rules that kernels include are missing"
    assert (package / "py.typed").exists(), "the mark of a typed package is missing"
    assert not list(package.rglob("*.cpp")), "sources of the core were installed"
    say(f"loosestep {ls.__version__}, Python {sys.version.split()[0]}, {Path(_core.__file__).name}")
    compilers = [name for name in ("cc", "gcc", "c++", "g++", "clang") if shutil.which(name)]
    say(f"compilers on the PATH: {' '.join(compilers) or 'none'}")

    threads, simulated = train(ls.Threads(2)), train(ls.Simulated(2))
    assert threads.params.tobytes() == simulated.params.tobytes()
    assert abs(threads.params - range(5)).max() < 0.1, threads.params
    say(f"trained in threads and in the simulator to the same bits: {threads.params.round(3)}")

    say(shell("info").strip())
    try:
        import sklearn  # noqa: F401
    except ImportError:
        say("compare: left out, since scikit-learn, which brings its data, is not installed")
        return
    say(
        shell(
            "compare", "--strategies", "AllReduceSGD(), EASGD(period=10)", "--epochs", "1", "--seeds", "1"
        ).strip()
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
    say("all is well")
