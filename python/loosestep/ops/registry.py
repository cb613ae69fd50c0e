"""The registry of ops: each has a specification in numpy and, in the native core, a kernel of its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from loosestep import _core

Function = TypeVar("Function", bound=Callable[..., Any])

specification: dict[str, Callable[..., Any]] = {}
"""The numpy body of every op."""

exact = _core.exact
"""The rules of the list `Shared` in csrc/rules/all.hpp, on a vector (the first argument) that several threads
update at once: it is accessed element by element, atomically, and every change is added: none is lost."""

racy = _core.racy
"""The same with an atomic load and an atomic store: faster; a change by another thread in between is lost."""


def op(body: Function) -> Function:
    """Keeps the body as the specification and gives the native function its name, signature and text."""
    name = body.__name__
    specification[name] = body
    native: Function | None = getattr(_core, name, None)
    if native is None:
        return body
    _core.document(native, _text_signature(body), inspect.getdoc(body) or "")
    return native


def _text_signature(body: Callable[..., Any]) -> str:
    bare = inspect.signature(body).replace(return_annotation=inspect.Signature.empty)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in bare.parameters.values()]
    return str(bare.replace(parameters=plain))
