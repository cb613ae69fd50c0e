"""The rules compile as C++17 without any system header: a run-time compiler can take them as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
USE = "".join(f'#include "{header.relative_to(CSRC)}"\n' for header in sorted((CSRC / "rules").glob("*.hpp")))
USE += """
static_assert(loosestep::Arguments<loosestep::Elastic<float>>::written() == 3);
static_assert(loosestep::only_writes<loosestep::Copy<float>> && loosestep::has_from<loosestep::Blend<double>>);
template struct loosestep::Adam<float>;
template struct loosestep::NesterovProximal<double>;
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_rules_need_no_header() -> None:
    flags = ["-std=c++17", "-nostdinc", "-nostdinc++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    done = subprocess.run(
        ["g++", *flags, f"-I{CSRC}", "-x", "c++", "-"], input=USE, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
