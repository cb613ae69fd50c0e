"""Which form a collective takes, in numbers: by workers, bytes, latency and bandwidth."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.lowering import forms
from loosestep.lowering.forms import Form
from loosestep.requests.links import Links

WAN, LAN = Links(5e-3, 12.5e6), Links(20e-6, 1.25e9)  # 100 Mbit/s far away; 10 Gbit/s in one room


@pytest.mark.parametrize(
    ("n", "nbytes", "links", "form"),
    [
        (4, 1 << 10, WAN, Form.WHOLE),
        (4, 40_000, WAN, Form.WHOLE),  # 5 + 9.6 ms against 10 + 4.8
        (4, 42_000, WAN, Form.DIRECT),
        (4, 8 << 20, WAN, Form.DIRECT),
        (64, 1100, WAN, Form.DIRECT),  # 5 + 5.5 ms against 10 + 0.2
        (64, 900, WAN, Form.WHOLE),
        (64, 8 << 20, WAN, Form.DIRECT),  # waiting for each message: 1.45 times as long
        (64, 256 << 20, WAN, Form.PAIRWISE),  # 1.015 times
        (15, 256 << 20, WAN, Form.DIRECT),
        (4, 16_000, LAN, Form.WHOLE),
        (4, 17_000, LAN, Form.DIRECT),
        (2, 1 << 30, LAN, Form.WHOLE),  # the same bytes in one message
        (2, 1 << 30, Links(0.0, inf), Form.DIRECT),
        (16, 1 << 20, Links(1.0, inf), Form.DIRECT),  # 15 MiB would come at once
        (1, 8, WAN, Form.DIRECT),
        (64, 8, None, Form.DIRECT),
    ],
)
def test_an_allreduce_takes_the_form_that_is_fastest(n: int, nbytes: int, links: Links | None, form: Form) -> None:
    assert forms.of_all_reduce(n, nbytes, links) is form


@drawn
@given(st.integers(2, 200), st.integers(0, 1 << 30), st.floats(0.0, 1.0), st.floats(1e3, 1e12))
def test_no_other_form_would_be_much_faster(n: int, nbytes: int, latency: float, bandwidth: float) -> None:
    chosen = forms.of_all_reduce(n, nbytes, Links(latency, bandwidth))
    parts = 2 * (n - 1) / n * nbytes / bandwidth
    seconds = {
        Form.WHOLE: latency + (n - 1) * nbytes / bandwidth,
        Form.DIRECT: 2 * latency + parts,
        Form.PAIRWISE: 2 * (n - 1) * latency + parts,
    }
    if n > 2 and (n - 1) * nbytes > forms.ROOM:
        del seconds[Form.WHOLE]
    assert seconds[chosen] <= forms.NARROW * min(seconds.values()) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("n", "nbytes", "links", "form"),
    [
        (4, 1 << 30, WAN, Form.DIRECT),
        (64, 1 << 10, WAN, Form.DIRECT),
        (64, 4 << 20, WAN, Form.PAIRWISE),
        (64, 4 << 20, None, Form.DIRECT),
    ],
)
def test_an_allgather_takes_the_form_that_is_fastest(n: int, nbytes: int, links: Links | None, form: Form) -> None:
    assert forms.of_all_gather(n, nbytes, links) is form


def test_messages_go_at_once_or_one_after_the_other() -> None:
    assert [list(at_once) for at_once in forms.hops(4, Form.DIRECT)] == [[1, 2, 3]]
    assert [list(at_once) for at_once in forms.hops(4, Form.WHOLE)] == [[1, 2, 3]]
    assert forms.hops(4, Form.PAIRWISE) == [[1], [2], [3]]
    assert all(not list(forms.hops(1, form)) for form in Form)
