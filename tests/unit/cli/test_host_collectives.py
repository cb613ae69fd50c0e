"""What `info` says of the forms that two processes chose."""

from __future__ import annotations

from loosestep.cli import host_collectives
from loosestep.lowering.host_forms import NEVER

TIMES = [
    {"bytes": size, "piece": piece, "seconds": seconds}
    for size, piece, seconds in (
        (16384, 0, 1e-6),
        (4 << 20, 0, 3e-4),
        (4 << 20, 524288, 2e-3),
        (4 << 20, 131072, 1e-3),
    )
]


def test_one_line_says_from_where_on_and_what_it_takes() -> None:
    found = {"why": None, "direct_from": 65536, "pieces": [[0, 524288], [2 << 20, 131072]], "times": TIMES}
    assert host_collectives.as_text(found) == (
        "two processes sum in place from 65.5 kB on, 0.30 ms for 4.19 MB, copied 1.00 ms; "
        "copied in pieces of 524 kB, 131 kB from 2.1 MB on"
    )
    assert "sum never in place, 0.30 ms" in host_collectives.as_text({**found, "direct_from": NEVER})


def test_what_is_not_measured_says_why() -> None:
    assert host_collectives.as_text({"why": "needs two cores"}) == "not measured: needs two cores"
