"""Reads configuration written as in the Python API, `CDSGD(topology=Ring())`, without running any code.

Known are calls of classes in a vocabulary, with literals and further calls as arguments; `EASGD` alone
stands for `EASGD()`. Rate schedules and stragglers are written with their namespace,
`stragglers.LogNormal(0.3)`, or without it, as they print.

>>> from loosestep.data.models import MLP, Softmax
>>> words = {"MLP": MLP, "Softmax": Softmax}
>>> parse("MLP(128, 64, l2=1e-4)", words)
MLP(128, 64, l2=0.0001)
>>> parse_list("Softmax, MLP(32)", words)
[Softmax(), MLP(32)]
>>> parse("MPL(64)", words)
Traceback (most recent call last):
    ...
loosestep.cli.expressions.ExpressionError: unknown name 'MPL'; did you mean MLP? (there are MLP, Softmax)
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

Vocabulary: TypeAlias = Mapping[str, type[Any]]
NAMESPACES = ("schedules", "stragglers")  # names in these may be written with or without them, as reprs print them
LONGEST = 10_000  # characters; no honest text comes near
SCALARS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


class ExpressionError(ValueError):
    """A text that is no such expression: one sentence, and for bad syntax a caret below the place."""


def public(*modules: ModuleType) -> dict[str, type[Any]]:
    """Return every concrete class that a user writes down, of these modules and their `NAMESPACES`, by name."""
    inner = [getattr(module, name) for module in modules for name in NAMESPACES if hasattr(module, name)]
    found = (value for module in [*modules, *inner] for value in vars(module).values())
    values = (cls for cls in found if isinstance(cls, type) and issubclass(cls, Value))
    return {cls.__name__: cls for cls in values if is_dataclass(cls)}  # a base class is none


def of_kind(vocabulary: Vocabulary, kind: type[Any]) -> dict[str, type[Any]]:
    """Return the part of a vocabulary that is of one kind, in alphabetical order."""
    return {name: vocabulary[name] for name in sorted(vocabulary) if issubclass(vocabulary[name], kind)}


def parse(text: str, vocabulary: Vocabulary, kind: type[Any] = object) -> Any:
    """Return the value that the text writes; it must be of that kind (a base class such as Strategy)."""
    return _Reader(text, vocabulary).top(_tree(text), kind)


def parse_list(text: str, vocabulary: Vocabulary, kind: type[Any] = object) -> list[Any]:
    """Return the values in a text, separated by commas."""
    tree, reader = _tree(text), _Reader(text, vocabulary)
    return [reader.top(node, kind) for node in (tree.elts if isinstance(tree, ast.Tuple) else [tree])]


def _tree(text: str) -> ast.expr:
    text = _one_line(text)
    if not text:
        raise ExpressionError("nothing was written where an expression such as EASGD(period=10) is wanted")
    if len(text) > LONGEST:
        raise ExpressionError(f"a text of {len(text)} characters is too long to be an expression")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd escapes and the like: the reader judges them itself
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(_caret(f"cannot read it: {error.msg}", text, (error.offset or 1) - 1)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"cannot read {text[:40]!r}: {error}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split("\n")).strip()


def _caret(sentence: str, text: str, column: int) -> str:
    return f"{sentence}\n  {text}\n  {' ' * min(column, len(text))}^"


class _Reader:
    """Turns the syntax tree of one text into values."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary = _one_line(text), vocabulary

    def top(self, node: ast.expr, kind: type[Any]) -> Any:
        known = of_kind(self.vocabulary, kind)
        word = "name" if kind is object else kind.__name__.lower()
        if not (isinstance(node, (ast.Name, ast.Call)) or _namespace_of(node)):
            self.refuse(node, f"not a {word}")
        name = self.name_of(node)
        if name in self.vocabulary and name not in known:
            raise ExpressionError(f"{name} is not a {word}; there are {', '.join(known)}")
        return self.made(name, node, known, word)

    def value(self, node: ast.expr) -> Any:
        """Return the value of an argument."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            return self.signed(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            values = [self.value(element) for element in node.elts]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        if isinstance(node, ast.Name) and node.id == "inf":
            return inf  # as floats print it
        if isinstance(node, (ast.Name, ast.Call)) or _namespace_of(node):
            return self.made(self.name_of(node), node, self.vocabulary, "name")
        return self.refuse(node, "an argument is a number, a string, True, False, None or a known name")

    def signed(self, node: ast.UnaryOp) -> float:
        number = self.value(node.operand)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            self.refuse(node, "a sign needs a number")
        return -number if isinstance(node.op, ast.USub) else number

    def name_of(self, node: ast.expr) -> str:
        """Return the name of the class that `node` names or calls, without its namespace."""
        name = node.func if isinstance(node, ast.Call) else node
        if isinstance(name, ast.Attribute) and (namespace := _namespace_of(name)):
            known = self.vocabulary.get(name.attr)
            if known is None or known.__module__.endswith(f".{namespace}"):
                return name.attr
            self.refuse(name, f"{namespace} has no {name.attr}")
        if not isinstance(name, ast.Name):
            self.refuse(name, "only a plain name can be called")
        return name.id

    def made(self, name: str, node: ast.expr, known: Vocabulary, word: str) -> Any:
        """Return an instance of the class of that name."""
        if name not in known:
            there = ", ".join(sorted(known))
            raise ExpressionError(f"unknown {word} {name!r}{_nearest(name, known)} (there are {there})")
        positional, named = self.arguments(node) if isinstance(node, ast.Call) else ([], {})
        return _construct(known[name], positional, named)

    def arguments(self, call: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        for node in call.args:
            if isinstance(node, ast.Starred):
                self.refuse(node, "a star cannot be written here")
        named = {}
        for keyword in call.keywords:
            if keyword.arg is None:
                self.refuse(keyword.value, "stars cannot be written here")
            if keyword.arg in named:
                self.refuse(keyword.value, f"{keyword.arg} is given twice")
            named[keyword.arg] = self.value(keyword.value)
        return [self.value(node) for node in call.args], named

    def refuse(self, node: ast.expr, why: str) -> NoReturn:
        # The tree counts columns in bytes of UTF-8, the caret in characters.
        before = self.text.encode()[: node.col_offset].decode(errors="ignore")
        raise ExpressionError(_caret(f"cannot read it: {why}", self.text, len(before)))


def _namespace_of(node: ast.expr) -> str | None:
    """Return "stragglers" for a name such as stragglers.LogNormal, None for others."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in NAMESPACES:
        return node.value.id
    return None


def _nearest(name: str, known: Iterable[str]) -> str:
    lower = {other.lower(): other for other in known}
    near = get_close_matches(name.lower(), lower, 1)
    return f"; did you mean {lower[near[0]]}?" if near else ""


def _construct(cls: type[Any], positional: list[Any], named: dict[str, Any]) -> Any:
    signature = inspect.signature(cls)
    for option in named:
        if option not in signature.parameters:
            raise ExpressionError(_no_option(cls, option, list(signature.parameters)))
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as error:
        raise ExpressionError(f"{cls.__name__}: {error}") from None
    for option, value in bound.arguments.items():
        _check(cls, signature.parameters[option], value)
    try:
        return cls(*positional, **named)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ExpressionError(f"{cls.__name__}: {error}") from error


def _no_option(cls: type[Any], option: str, options: list[str]) -> str:
    there = ", ".join(options) or "none"
    return f"{cls.__name__} has no option {option!r}{_nearest(option, options)} (it has {there})"


def _check(cls: type[Any], parameter: inspect.Parameter, value: Any) -> None:
    """Refuse a value of another type than the annotation names, where it names only types known here."""
    values = value if parameter.kind is parameter.VAR_POSITIONAL else (value,)
    wanted = str(getattr(parameter.annotation, "__name__", parameter.annotation))
    for each in values:
        if not _fits(each, re.findall(r"\w+", wanted)):
            raise ExpressionError(f"{cls.__name__}: {parameter.name} must be {wanted}, got {each!r}")


def _fits(value: Any, words: list[str]) -> bool:
    """Return whether a value may stand where an annotation consists of these words."""
    scalars = [word for word in words if word in SCALARS]
    bases = {base.__name__ for base in _bases()}
    if not set(words) <= {*SCALARS, "None", *bases}:
        return True  # an alias, a Literal: the class itself judges
    if isinstance(value, Value):
        return any(base.__name__ in words for base in type(value).__mro__)
    if isinstance(value, bool):
        return "bool" in scalars
    if value is None:
        return "None" in words
    return any(isinstance(value, SCALARS[word]) for word in scalars)


def _bases() -> list[type[Any]]:
    """Return Value and every class derived from it that has been defined."""
    found: list[type[Any]] = [Value]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found
