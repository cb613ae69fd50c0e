"""The directive `members`: every public name of a module, so that a new one is documented without another line.

`{members} loosestep` with `:of: strategies` shows those of `loosestep.__all__` that are written in that folder;
`{members} loosestep.requests` all of its `__all__`.
"""

from __future__ import annotations

import inspect
import pkgutil
from typing import TYPE_CHECKING, Any, ClassVar

from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective

from extensions.docstrings import escaped

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


def chosen(module: Any, folder: str, listed: str) -> list[str]:
    """The names to show: functions and classes that a list of the module names, or all that it defines itself."""
    names = getattr(module, listed, None)
    if names is None:
        names = [name for name, value in vars(module).items() if home(value) == module.__name__]
    found = [name for name in names if shown(getattr(module, name)) and not name.startswith("_")]
    return sorted((name for name in found if home(getattr(module, name)).startswith(folder)), key=str.lower)


def shown(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def home(value: object) -> str:
    """The module in which it is written."""
    return getattr(value, "__module__", None) or ""


def summary(value: object) -> str:
    """The first sentence of what it is for."""
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return escaped(text.split(". ")[0].rstrip(".:") + ".") if text else ""


class Members(SphinxDirective):
    """Show every public name of a module."""

    required_arguments = 1
    option_spec: ClassVar = {
        "of": directives.unchanged,  # only those that are written in this folder
        "names": directives.unchanged,  # the module's list of names, `__all__` by default
        "table": directives.flag,  # first a table with a sentence of each
        "methods": directives.flag,  # of classes as well
    }

    def run(self) -> list[nodes.Node]:
        with mock(self.config.autodoc_mock_imports):
            module = pkgutil.resolve_name(self.arguments[0])
        folder = f"loosestep.{self.options['of']}" if "of" in self.options else ""
        names = chosen(module, folder, self.options.get("names", "__all__"))
        if not names:
            raise self.error(f"{self.arguments[0]} has no public names of {folder}")
        lines = list(self.table(module, names)) if "table" in self.options else []
        for name in names:
            lines += self.entry(module, name)
        return self.parse(lines)

    def entry(self, module: Any, name: str) -> list[str]:
        value = getattr(module, name)
        kind = "autoclass" if inspect.isclass(value) else "autofunction"
        options = ["   :members:"] if kind == "autoclass" and "methods" in self.options else []
        return [f".. {kind}:: {module.__name__}.{name}", *options, ""]

    def table(self, module: Any, names: list[str]) -> list[str]:
        lines = [".. list-table::", "   :widths: 25 75", ""]
        for name in names:
            lines += [f"   * - :py:obj:`~{module.__name__}.{name}`", f"     - {summary(getattr(module, name))}"]
        return [*lines, ""]

    def parse(self, lines: list[str]) -> list[nodes.Node]:
        """As reStructuredText, in a page of Markdown."""
        fence = ["```{eval-rst}", *lines, "```"]
        return self.parse_text_to_nodes(StringList(fence, source=self.env.docname))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("members", Members)
    return {"parallel_read_safe": True}
