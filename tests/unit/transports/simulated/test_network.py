"""What a message costs on the imaginary network, in numbers from its definition."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from loosestep.lowering.forms import Form
from loosestep.transports.simulated.network import Network, farthest, per_link, within


def network(size: int = 2, latency: Any = 1.0, bandwidth: Any = 4.0, center: float = 8.0) -> Network:
    return Network(size, latency, bandwidth, center)


def test_a_push_leaves_its_worker_and_arrives_later() -> None:
    assert network().push(0, 16, now=10.0) == (14.0, 15.0)  # 16 / 4 on its link, which is the slower one, and 1


def test_a_worker_sends_one_at_a_time() -> None:
    one = network()
    one.push(0, 16, now=0.0)
    assert one.push(0, 16, now=1.0) == (8.0, 9.0)
    assert one.push(1, 16, now=1.0)[0] == 5.0


def test_pushes_queue_at_the_center() -> None:
    one = network(bandwidth=inf)
    assert one.push(0, 16, now=0.0) == (0.0, 3.0)  # 1 and 16 / 8
    assert one.push(1, 16, now=0.0) == (0.0, 5.0)


def test_a_question_arrives_behind_what_was_pushed() -> None:
    one = network()
    assert one.asked(0, now=2.0) == 3.0
    one.push(0, 16, now=2.0)
    assert one.asked(0, now=2.0) == 7.0
    assert one.asked(1, now=2.0) == 3.0


def test_answers_queue_on_the_way_out() -> None:
    one = network()
    assert one.pull(16, now=1.0) == (1.0, 3.0)
    assert one.pull(16, now=2.0) == (3.0, 5.0)
    assert one.pull(16, now=9.0) == (9.0, 11.0)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("form", Form)
def test_an_allreduce_takes_what_its_form_says(n: int, form: Form) -> None:
    nbytes = 8 * 4 * n  # chunks of one size
    arrivals = [0.0] * (n - 1) + [3.0]
    times = network(n).all_reduce(4 * n, 8, range(n), arrivals, whole=form.whole, at_once=form.at_once)
    hops = {Form.WHOLE: 1, Form.DIRECT: 2, Form.PAIRWISE: 2 * (n - 1)}[form]
    seconds = (n - 1 if form is Form.WHOLE else 2 * (n - 1) / n) * nbytes / 4.0
    assert max(times) == pytest.approx(3.0 + hops * 1.0 + seconds)


def test_an_allreduce_waits_for_what_its_worker_still_sends() -> None:
    one = network(2)
    one.push(0, 40, now=0.0)  # until 10
    times = one.all_reduce(2, 8, (0, 1), [0.0, 0.0], whole=False, at_once=True)
    assert min(times) >= 10.0
    assert one.push(0, 0, now=0.0)[0] == 14.0


def test_the_links_of_a_table_are_its_slowest_between_hosts() -> None:
    latency, bandwidth = [[9.0, 1.0, 2.0], [1.0, 9.0, 3.0], [2.0, 3.0, 9.0]], [[1.0, 4.0, 6.0]] * 3
    assert network(3).links() == (1.0, 4.0)
    assert network(1).links() is None
    assert network(3, latency, bandwidth).links() == (3.0, 1.0)
    assert network(3, latency, bandwidth).links(((0, 1), (2,))) == (3.0, 1.0)
    assert network(3, latency, bandwidth).links(((0,), (1, 2))) == (2.0, 1.0)
    assert network(3, latency, bandwidth).links(((0, 1, 2),)) is None


def test_a_link_is_a_number_or_a_row_of_a_table() -> None:
    table = [[0.0, 1.0], [2.0, 0.0]]
    assert per_link("latency", 3.0, 2, zero=True).tolist() == [[3, 3], [3, 3]]
    assert per_link("latency", table, 2, zero=True).tolist() == table
    assert farthest(per_link("latency", table, 2, zero=True)) == [1.0, 2.0]
    assert farthest(per_link("latency", 3.0, 2, zero=True)) == [3.0, 3.0]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([[1.0]], r"bandwidth must be a number or a 2 x 2 table, got shape \(1, 1\)"),
        ([1.0, 2.0], r"bandwidth must be a number or a 2 x 2 table, got shape \(2,\)"),
        ([[1.0, 0.0], [1.0, 1.0]], "bandwidth must be above 0 on every link"),
        (float("nan"), "bandwidth must be"),
        (0.0, "bandwidth must be above 0"),
    ],
)
def test_what_is_no_link_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        per_link("bandwidth", value, 2, zero=False)


def test_links_within_a_host_are_those_of_memory() -> None:
    hosts = ((0, 1), (2,))
    assert within("latency", 5.0, None, 0.5, hosts) == [[0.5, 0.5, 5.0], [0.5, 0.5, 5.0], [5.0, 5.0, 0.5]]
    assert within("latency", 5.0, 0.25, 0.5, hosts) == [[0.25, 0.25, 5.0], [0.25, 0.25, 5.0], [5.0, 5.0, 0.25]]
    assert within("latency", 5.0, None, 0.5, ()) == 5.0
    with pytest.raises(ValueError, match="host_latency needs hosts, and one number for latency between them"):
        within("latency", 5.0, 0.25, 0.5, ())
