"""What a probe's file holds, and what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.probe import Measurement, Probe

FOUND = Probe(
    n=2, hosts=(1, 1), transport="MPI()", machine="one", latency=0.005, bandwidth=1e7,
    prices=Prices(send=1e-4, inbound=None, lag=(((8.0, 0.0), (1024.0, 1e-3)),)), center="shards",
    steps=((0.01, 0.03), (0.02, 0.04)), measured=(Measurement("there and back", 8, 1, 0.01, 1e-4, 20),),
)  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    FOUND.write(tmp_path / "probe.json")
    assert Probe.read(tmp_path / "probe.json") == FOUND
    assert FOUND.step_time == pytest.approx(0.025)


@pytest.mark.parametrize("content", ["", "3", "{}", '{"format": 2}', '{"format": 1, "n": 2}'])
def test_another_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json is not what `loosestep probe` writes"):
        Probe.read(path)


def test_bad_prices_of_a_file_are_refused_by_name(tmp_path: Path) -> None:
    content = json.loads(FOUND.text())
    content["prices"]["send"] = -1
    (tmp_path / "probe.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="send must be at least 0"):
        Probe.read(tmp_path / "probe.json")
