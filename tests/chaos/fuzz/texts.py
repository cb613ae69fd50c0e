"""Expressions of the command line: a value that prints, or a sentence; nothing else, and nothing is run."""

from __future__ import annotations

import builtins
import inspect
import os
import string
from typing import TYPE_CHECKING, Any, NoReturn

from tests.chaos.draw import sentence

from loosestep.cli.commands import WORDS
from loosestep.cli.expressions import ExpressionError, parse, parse_list
from loosestep.data.models import Model
from loosestep.optimizers import Optimizer
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.draw import Draw

ALL = 8800
WANTED = (Strategy, Transport, Model, Optimizer)
NAMES = sorted(WORDS)
LITERALS = (
    "0", "1", "2", "4", "-1", "1e9", "0.5", "1e-300", "1e400", "-0.0", "3000000000", "9" * 20, "9" * 400,
    "9" * 5000, "0x7fffffffffffffff", "1_0", "True", "None", "inf", "-inf", "nan", "1j", "...", "b'a'", "f'{1}'",
    "'constant'",     "'\\ud800'", "(1, 2)", "[1]", "[]", "()", "[[1]]", "((0, 0),)", "{1}", "{}",
    "lambda: 1", "[x for x in ()]",
    "__import__('os').getpid()", "().__class__", "1 if 1 else 2", "'a' * 10", "10**9", "*[1]", "**{}",
    "1000000000",
)  # fmt: skip
TOKENS = (*NAMES, *LITERALS, *"()[]{},=+-*.:@\\'\"#;!~", "==", ":=", "**", "and", "not", "if", "for", " ", "\n")
FAR = ("", " ", "\0", "\ufeff", "\ud800", "\u2028", "\uff25\uff21SGD", "é", "\U0001d4b3", "\x1b[0m", "\r", "\x0c")


def forbidden(name: str) -> Any:
    """What a text must never reach."""

    def call(*_: object, **__: object) -> NoReturn:
        raise AssertionError(f"a text came to call {name}")

    return call


def judged(text: str) -> str:
    """What every reader makes of it: `value`, or `sentence` if none takes it."""
    before = builtins.eval, builtins.exec, os.system
    builtins.eval, builtins.exec, os.system = map(forbidden, ("eval", "exec", "os.system"))  # type: ignore[assignment]
    try:
        words = {read(text, kind) for kind in WANTED}
    finally:
        builtins.eval, builtins.exec, os.system = before  # type: ignore[assignment]
    return "value" if "value" in words else "sentence"


def read(text: str, kind: type[Any]) -> str:
    """By one reader."""
    try:
        found = (parse_list if kind is Strategy else parse)(text, WORDS, kind)
    except ExpressionError as error:
        return sentence(error)
    assert repr(found)
    return "value"


def written(random: Random, cls: type[Any], depth: int = 0) -> str:
    """A call of a class with some of its options, of any value."""
    given = []
    for option in inspect.signature(cls).parameters.values():
        if random.random() < 0.5:
            continue
        deep = depth < 4 and random.random() < 0.3
        value = written(random, WORDS[random.choice(NAMES)], depth + 1) if deep else random.choice(LITERALS)
        plain = option.kind is option.VAR_POSITIONAL or random.random() < 0.1
        given.append(value if plain else f"{option.name}={value}")
    return f"{cls.__name__}({', '.join(given)})"


def call(random: Draw) -> str:
    return judged(written(random, WORDS[random.choice(NAMES)]))


def tokens(random: Draw) -> str:
    return judged("".join(random.choice(TOKENS) for _ in range(random.randrange(1, 25))))


def characters(random: Draw) -> str:
    return judged("".join(chr(random.randrange(0x300)) for _ in range(random.randrange(60))))


def edited(random: Draw) -> str:
    """A call with a few characters lost, doubled or replaced."""
    text = list(written(random, WORDS[random.choice(NAMES)]))
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(text) + 1)
        new = random.choice((random.choice(string.printable), random.choice(FAR), random.choice(TOKENS), ""))
        text[place : place + random.randrange(2)] = [new]
    return judged("".join(text))


def nested(random: Draw) -> str:
    """Something in itself, up to far too often."""
    often = random.choice((2, 20, 90, 200, 500, 1000, 4000))
    before, middle, after = random.choice((
        ("(", "EASGD()", ")"), ("[", "", "]"), ("Averaged(", "LocalSGD()", ")"), ("DBS(", "LocalSGD()", ")"),
        ("EASGD(", "-1", ")"), ("Nesterov(Warmup(", "0.1", ", 5))"), ("-", "1", ""),
        ("Metered(", "Threads(2)", ")"),
        ("Stages((", "LocalSGD()", ", 2))"), ("Simulated(2, hosts=", "[1, 1]", ")"), ("MLP(1,", "1", ")"),
    ))  # fmt: skip
    return judged(before * often + middle + after * (often - (random.random() < 0.2)))


def large(random: Draw) -> str:
    """A number that nobody has so much memory, time or workers for."""
    number = random.choice(("100000", "1000000000", "2147483648", "18446744073709551616", "1e18", "9" * 300))
    return judged(random.choice((
        "Simulated({})", "Threads({})", "MLP({0})", "MLP({0}, {0})", "EASGD(period={})",
        "StreamingDiLoCo(fragments={})",
        "DecoupledDiLoCo(fragments={})", "HierarchicalLocalSGD(levels=(({}, 2),))", "Simulated(hosts=[{}])",
        "Simulated(2, stragglers=LogNormal({}))", "SGD(rate={})", "Nesterov(StepDecay(0.1, at=({},)))",
    )).format(number))  # fmt: skip


KINDS = {each.__name__: each for each in (call, tokens, characters, edited, nested, large)}
