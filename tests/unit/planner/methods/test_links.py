"""Links by name and by number."""

from __future__ import annotations

import pytest

from loosestep.planner.methods.links import PRESETS, named


@pytest.mark.parametrize(
    ("text", "latency", "bandwidth"),
    [
        ("5 ms, 100 Mbit/s", 5e-3, 12.5e6),
        ("0.05ms 10 Gbit/s", 5e-5, 1.25e9),
        (" 30 us, 1.25 GB/s ", 3e-5, 1.25e9),
        ("1 s, 500 B/s", 1.0, 500.0),
        ("2e-3 s, 8 kbit/s", 2e-3, 1e3),
        ("0 ms, 1 TB/s", 0.0, 1e12),
    ],
)
def test_numbers_have_units(text: str, latency: float, bandwidth: float) -> None:
    assert named(text) == pytest.approx((latency, bandwidth))


def test_names_are_found_however_they_are_written() -> None:
    for name, links in PRESETS.items():
        assert named(name.upper().replace(" ", "-")) == links


@pytest.mark.parametrize(
    "text", ["", "10 GbEE", "5 ms", "5 ms, 0 Mbit/s", "5, 100", "-1 ms, 1 MB/s", "5 ms, 1 mbit/s"]
)
def test_other_texts_are_refused_with_the_names(text: str) -> None:
    with pytest.raises(ValueError, match="or one of 1 GbE, 10 GbE, .*; got"):
        named(text)


def test_the_internet_is_what_tcp_makes_of_lost_packets() -> None:
    links = PRESETS["TCP over the internet"]
    assert links.bandwidth == pytest.approx(1.22 * 1460 / (2 * links.latency) / 5e-5**0.5, rel=0.02)
