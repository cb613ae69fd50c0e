"""The README's promises about its own text: the code runs, and CI finds the two commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_first_program_runs_and_every_method_comes_near(capsys: pytest.CaptureFixture[str]) -> None:
    program = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    exec(compile(program, "README.md", "exec"), {})
    errors = [float(line.split()[-3]) for line in capsys.readouterr().out.splitlines()]
    assert len(errors) == 8
    assert max(errors) < 1.0


def test_there_are_two_shell_commands() -> None:
    blocks = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(blocks) == 2
    assert all("\n" not in block for block in blocks)
