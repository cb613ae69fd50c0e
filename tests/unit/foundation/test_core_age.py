"""The warning that the compiled core is older than its sources."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from loosestep.foundation.core_age import warn_if_old


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose core was built a second after its last change."""
    for name in ("csrc/bind/team.hpp", "kernels/step.cuh", "python/loosestep/_core.so"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (1000, 1000))
    os.utime(tmp_path / "python/loosestep/_core.so", (1001, 1001))
    return tmp_path


def warned(checkout: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_old(str(checkout / "python/loosestep"), str(checkout / "python/loosestep/_core.so"))
    return [str(each.message) for each in caught]


def test_a_core_that_is_newer_than_its_sources_is_fine(checkout: Path) -> None:
    assert warned(checkout) == []


@pytest.mark.parametrize("name", ["csrc/bind/team.hpp", "csrc/new/file.cpp", "kernels/step.cuh"])
def test_a_changed_source_is_named_with_the_command_that_builds_it(checkout: Path, name: str) -> None:
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).touch()
    os.utime(checkout / name, (1002, 1002))
    (text,) = warned(checkout)
    assert f"older than {checkout / name}" in text
    assert text.endswith(f"pip install -e {checkout}")


def test_what_an_editor_keeps_is_no_source(checkout: Path) -> None:
    (checkout / "csrc/bind/.team.hpp.swp").touch()
    assert warned(checkout) == []


def test_an_installed_package_has_no_sources_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "lib/python3.13/site-packages/loosestep"
    package.mkdir(parents=True)
    (package / "_core.so").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_old(str(package), str(package / "_core.so"))


def test_it_looks_once_at_each_file(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    looked, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(folder) or scan(folder))  # type: ignore[func-returns-value]
    assert warned(checkout) == []
    assert sorted(looked) == [str(checkout / name) for name in ("csrc", "csrc/bind", "kernels")]
