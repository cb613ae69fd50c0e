#!/usr/bin/env python3
"""Type-check what users copy: Python blocks of README and docs/, and examples/, as code that is not strict.

    python .ci/typed.py

Everything is copied into one folder under names of its own, since examples share file names. A block of a page is
a fragment: what it does not define is taken as Any. So are torch and JAX, as in the package's own check. The
package's errors are that check's: how it is installed would otherwise decide whether they are reported here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = """
[mypy]
check_untyped_defs = true
warn_unused_ignores = true
disable_error_code = name-defined
[mypy-loosestep.*]
follow_imports = silent
[mypy-torch.*,jax.*,optax.*,transformers.*,lightning.*,accelerate.*,timm.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-sklearn.*,scipy.*,matplotlib.*,safetensors.*,threadpoolctl.*,cupy.*]
ignore_missing_imports = true
"""


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return the page's Python blocks, each with the number of its first line."""
    text = page.read_text()
    return [(text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in BLOCK.finditer(text)]


def collect(folder: Path) -> list[str]:
    """Copy all code into the folder; return the names of the files, in order."""
    code = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        prefix = "_".join(page.relative_to(ROOT).with_suffix("").parts)
        code |= {f"{prefix}_line_{line}": text for line, text in blocks(page)}
    for file in sorted((ROOT / "examples").rglob("*.py")):
        prefix = "_".join(file.relative_to(ROOT).parent.parts)
        beside = "|".join(other.stem for other in file.parent.glob("*.py"))  # a script imports those beside it
        text = re.sub(
            rf"^from ({beside}) import", rf"from {prefix}_\1 import", file.read_text(), flags=re.MULTILINE
        )
        code[f"{prefix}_{file.stem}"] = text
    for name, text in code.items():
        (folder / f"{name}.py").write_text(text)
    return [f"{name}.py" for name in code]


def main() -> int:
    """Run mypy over the copies; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        names = collect(Path(folder))
        cache = ROOT / ".mypy_cache" / "typed"
        Path(folder, "mypy.ini").write_text(CONFIG)
        command = [sys.executable, "-m", "mypy", f"--cache-dir={cache}", *names]
        return subprocess.run(command, cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT / "python")}).returncode


if __name__ == "__main__":
    sys.exit(main())
