"""Texts of the Python API, read without running them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loosestep as ls
from loosestep.cli import expressions
from loosestep.cli.expressions import ExpressionError, of_kind, parse, parse_list, public
from loosestep.data import models
from loosestep.foundation import checks
from loosestep.foundation.value import Value


class Shape(Value):
    """A base class, as Strategy is."""


@dataclass(frozen=True, repr=False)
class Circle(Shape):
    radius: float = 1.0
    label: str | None = None
    times: int = 1
    filled: bool = False

    def __post_init__(self) -> None:
        checks.integer("times", self.times)


@dataclass(frozen=True, repr=False)
class Pair(Shape):
    first: Shape
    second: Shape = field(default_factory=Circle)
    join: Literal["and", "or"] = "and"
    extra: object = ()

    def __post_init__(self) -> None:
        checks.one_of("join", self.join, ("and", "or"))


@dataclass(frozen=True, repr=False)
class Vast(Shape):
    size: int = 1

    def __post_init__(self) -> None:
        raise (
            MemoryError(f"there is no room for {self.size}") if self.size > 1 else OverflowError("1 is too large")
        )


WORDS = {"Circle": Circle, "Pair": Pair, "MLP": models.MLP, "Softmax": models.Softmax}

floats = st.floats(allow_nan=False)
circles = st.builds(Circle, floats, st.none() | st.text(), st.integers(1), st.booleans())
literals = st.none() | st.booleans() | st.integers() | floats | st.text()
extras = st.recursive(literals, lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple))
shapes = st.recursive(circles, lambda inner: st.builds(Pair, inner, inner, st.sampled_from(["and", "or"]), extras))


@given(shapes)
def test_what_prints_reads_back_as_it_was(shape: Shape) -> None:
    assert parse(repr(shape), WORDS, Shape) == shape


@given(st.lists(shapes, min_size=1, max_size=4))
def test_a_list_of_what_prints_reads_back(several: list[Shape]) -> None:
    assert parse_list(", ".join(map(repr, several)), WORDS) == several


@given(st.text() | st.text("Circle()=,.'\"[]-+:*1 \n"))
def test_any_text_is_a_value_or_a_sentence(text: str) -> None:
    with suppress(ExpressionError):
        parse(text, WORDS)


def test_a_bare_name_is_a_call_without_arguments() -> None:
    assert parse("Circle", WORDS) == Circle()
    assert parse_list(" Circle ,\n MLP(64), ", WORDS) == [Circle(), models.MLP(64)]
    assert parse("Pair(Circle)", WORDS) == Pair(Circle())


def test_signs_and_positional_arguments() -> None:
    assert parse("Circle(-2.5, 'x', times=+3)", WORDS) == Circle(-2.5, "x", 3)
    assert parse("Circle(-inf)", WORDS) == Circle(float("-inf"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "SGD(schedules.Warmup(StepDecay(at=(3,)), 5))",
            ls.SGD(ls.schedules.Warmup(ls.schedules.StepDecay(at=(3,)), 5)),
        ),
        ("Simulated(8, stragglers=stragglers.Constant)", ls.Simulated(8, stragglers=ls.stragglers.Constant())),
        (
            "stragglers.SlowWorker(2, base=LogNormal(0.5))",
            ls.stragglers.SlowWorker(2, base=ls.stragglers.LogNormal(0.5)),
        ),
    ],
)
def test_a_name_may_have_its_namespace_and_prints_without_it(text: str, value: Value) -> None:
    assert parse(text, public(ls)) == value
    assert parse(repr(value), public(ls)) == value


def test_every_public_name_of_a_namespace_is_known_on_the_command_line() -> None:
    for space in (ls.stragglers, ls.schedules):
        named = {name for name in space.__all__ if is_dataclass(getattr(space, name))}
        assert len(named) >= 5
        assert named <= set(public(ls))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SGD(stragglers.Warmup())", "stragglers has no Warmup"),
        ("SGD(schedules.Warmap())", "unknown name 'Warmap'; did you mean Warmup?"),
        ("SGD(ls.schedules.Warmup())", "only a plain name can be called"),
    ],
)
def test_a_name_in_the_wrong_namespace_is_refused(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(words)):
        parse(text, public(ls))


BAD = {
    "": "nothing was written",
    "Circel()": "unknown name 'Circel'; did you mean Circle? (there are Circle, MLP, Pair, Softmax)",
    "xyz": "unknown name 'xyz' (there are",
    "circle(times=2)": "did you mean Circle?",
    "Pair(Circel())": "unknown name 'Circel'; did you mean Circle?",
    "Circle(radios=2)": "Circle has no option 'radios'; did you mean radius? (it has radius, label, times",
    "Circle(1, 'a', 2, True, 5)": "Circle: too many positional arguments",
    "Circle(1, radius=2)": "Circle: multiple values for argument 'radius'",
    "Pair()": "Pair: missing a required argument: 'first'",
    "Circle(times=0)": "Circle: times must be at least 1, got 0",
    "Circle(times='8')": "Circle: times must be int, got '8'",
    "Circle(times=2.5)": "Circle: times must be int, got 2.5",
    "Circle(times=True)": "Circle: times must be int, got True",
    "Circle(radius=None)": "Circle: radius must be float, got None",
    "Circle(radius=Circle())": "Circle: radius must be float, got Circle()",
    "Pair(MLP(8))": "Pair: first must be Shape, got MLP(8)",
    "Pair(3)": "Pair: first must be Shape, got 3",
    "Pair(Circle, join='xor')": "Pair: join must be one of 'and', 'or', got 'xor'",
    "MLP('8')": "MLP: hidden must be int, got '8'",
    "Circle(": "'(' was never closed\n  Circle(\n        ^",
    "Circle(radius=)": "cannot read it: ",
    "Circle(times=1, times=2)": "times is given twice",
    "3": "cannot read it: not a name\n  3\n  ^",
    "Circle(1 + 2)": "True, False, None or a known name\n  Circle(1 + 2)\n         ^",
    "Circle(label=b'x')": "an argument is a number",
    "Circle(label=f'{Circle}')": "an argument is a number",
    "Circle(1j)": "an argument is a number",
    "Circle(-'x')": "a sign needs a number",
    "Circle(-True)": "a sign needs a number",
    "Circle(*(1, 2))": "a star cannot be written here",
    "Circle(**{})": "stars cannot be written here",
    "os.system('ls')": "only a plain name can be called",
    "__import__('os')": "unknown name '__import__'",
    "(lambda: 1)()": "only a plain name can be called",
    "Circle().radius": "not a name",
    "'ä', [x for x in y]": "not a name",
    "Pair(Circle(label='ää'), 1 < 2)": "'ää'), 1 < 2)\n" + " " * 27 + "^",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_texts_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(BAD[text])):
        parse(text, WORDS)


@pytest.mark.parametrize("text", ["(" * 5_000, "-" * 9_000 + "1", "Circle(" + "[" * 3_000, "9" * 20_000, "\0"])
def test_absurd_texts_end_in_a_sentence(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text, WORDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Simulated(1000000000)", "Simulated: n must be at most 1e+06, got 1000000000"),
        ("Simulated(5000, hosts=(5000,))", "Simulated: n, with hosts, must be at most 4096, got 5000"),
        ("Vast(8)", "Vast: there is no room for 8"),
        ("Vast(1)", "Vast: 1 is too large"),
    ],
)
def test_a_text_that_asks_for_too_much_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(words)):
        parse(text, {"Simulated": ls.Simulated, "Vast": Vast})


def test_a_million_workers_are_written_down_at_once() -> None:
    network = parse("Simulated(1000000, bandwidth=5.0)", {"Simulated": ls.Simulated}).network()
    assert network.worker_bandwidth == [5.0] * 1_000_000


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(ExpressionError, match="MLP is not a shape; there are Circle, Pair"):
        parse("MLP(8)", WORDS, Shape)
    with pytest.raises(
        ExpressionError, match=r"unknown shape 'Circl'; did you mean Circle\? \(there are Circle, Pair\)"
    ):
        parse_list("Circle, Circl", WORDS, Shape)


def test_a_vocabulary_is_what_modules_hold_that_can_be_made() -> None:
    assert of_kind(public(models), models.Model) == {"MLP": models.MLP, "Softmax": models.Softmax}
    assert "Value" not in public(expressions)
