"""Docstrings of this project, which are plain text with examples, as reStructuredText.

A paragraph `name: what it is`, with its further lines indented, becomes an entry of a list. `code` stays code, and
whatever else reStructuredText would take for its own marks (`*`, `|`, `_`) is text.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

ENTRY = re.compile(r"([A-Za-z_][\w]*(?:, [A-Za-z_]\w*)*): (.*)")
CODE = re.compile(r"(`[^`]+`)")
MARKS = re.compile(r"([\\*|_])")
NUMBER = re.compile(r"^(?=\(?\w{1,5}[.)] )")  # which begins a list: "D. Kingma" does not


def escaped(line: str) -> str:
    """Text as reStructuredText that shows it as it stands."""
    parts = CODE.split(line)
    text = (f"`{part}`" if part.startswith("`") else MARKS.sub(r"\\\1", part) for part in parts)
    return NUMBER.sub(r"\\", "".join(text))


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    for filled, group in groupby(lines, lambda line: bool(line.strip())):
        if filled:
            yield list(group)


def entries(lines: list[str]) -> Iterator[str]:
    """A list of fields or arguments: `name: text`, where further lines are indented."""
    for line in lines:
        found = ENTRY.fullmatch(line)
        if found:
            yield f"- **{escaped(found[1])}**: {escaped(found[2])}"
        else:
            yield f"  {escaped(line.strip())}"


def converted(lines: list[str]) -> list[str]:
    """The lines of one docstring."""
    out: list[str] = []
    for block in paragraphs(lines):
        first = block[0]
        if first.lstrip().startswith(">>>"):
            out += block
        elif ENTRY.fullmatch(first) and not first.startswith(("Reference:", "Raises")):
            out += entries(block)
        elif all(line.startswith("    ") for line in block):
            out += ["::", "", *block]
        else:
            out += list(loose(block))
        out.append("")
    return out


def loose(block: list[str]) -> Iterator[str]:
    """A paragraph; what is indented in its middle is code."""
    inside = False
    for line in block:
        indented = line.startswith("    ")
        if indented and not inside:
            yield from ("", "::", "")
        elif inside and not indented:
            yield ""
        inside = indented
        yield line if indented else escaped(line)


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = converted(lines)


def skip(app: Sphinx, what: str, name: str, obj: object, skipped: bool, options: object) -> bool | None:
    """Leave out what scikit-learn gives to every estimator."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
