"""Options that commands have in common, and values that are written as in the Python API."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import click

import loosestep
from loosestep.cli.expressions import ExpressionError, of_kind, parse, parse_list, public
from loosestep.data import models
from loosestep.foundation.value import instance
from loosestep.optimizers import Optimizer
from loosestep.optimizers.schedules import SCALINGS
from loosestep.transports.base import Transport

Command = TypeVar("Command", bound=Callable[..., Any])
WORDS = public(loosestep, models)


class Expression(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Text of the Python API, of one kind; `many` of them separated by commas."""

    def __init__(self, kind: type[Any], *, many: bool = False) -> None:
        self.kind, self.many, self.name = kind, many, kind.__name__.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if self.many and value.strip() == "all":
            return all_of_kind(self.kind)
        try:
            return (parse_list if self.many else parse)(value, WORDS, self.kind)
        except ExpressionError as error:
            return self.fail(str(error), param, ctx)


SMALL, LARGE, MANY = 8, 64, 10_000  # rows of a batch for small and for large data, and what is large
at_least_one = click.IntRange(min=1)
debug = click.option("--debug", is_flag=True, expose_value=False, help="Show where an error came from.")
SHARED = (
    click.option("--data", "source", default="digits", show_default=True, metavar="NAME|FILE.npz",
                 help="digits, fashion-mnist, or a file with x_train, y_train, x_test, y_test (or x, y)."),
    click.option("--data-folder", metavar="DIR", help="Where the files of fashion-mnist are."),
    click.option("--model", type=Expression(models.Model), default="MLP(64)", show_default=True, metavar="MODEL",
                 help="MLP(...) with the widths of its hidden layers, or Softmax()."),
    click.option("--workers", type=at_least_one, help="How many; 4, or as --on says."),
    click.option("--on", type=Expression(Transport), metavar="TRANSPORT",
                 help="What joins the workers; by default Threads(workers); for compare, a slow link, simulated."),
    click.option("--optimizer", type=Expression(Optimizer), metavar="OPTIMIZER",
                 help="The local update, of every row; Nesterov(0.03) by default."),
    click.option("--scale-rate", type=click.Choice(list(SCALINGS)), default="none", show_default=True,
                 help="Multiply the learning rate by the number of workers, or by its root."),
    click.option("--batch", type=at_least_one,
                 help=f"Rows in a worker's batch; {SMALL}, or {LARGE} from {MANY:,} rows on."),
    click.option("--epochs", type=at_least_one, default=10, show_default=True, help="Times through the data."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Of the start, the order of the rows, and all that is random in the run."),
    click.option("--by-label", is_flag=True, help="Deal rows sorted by label: workers see different classes."),
    click.option("--fraction", type=click.FloatRange(0, 1, min_open=True), metavar="PART",
                 help="Each worker keeps this part of the rows; parts overlap. By default rows are dealt anew."),
    click.option("--json", "json_file", metavar="FILE", help="Write the rows of the table; - is standard output."),
    click.option("--out", metavar="DIR", help="Write metrics.jsonl and accuracy.png there."),
    debug,
)  # fmt: skip


def shared_options(command: Command) -> Command:
    """Add the options that `compare` and `train` have in common."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(SHARED), command)


def all_of_kind(kind: type[Any]) -> list[Any]:
    """Return one instance of each class, with its defaults or its example."""
    return [instance(cls) for cls in of_kind(WORDS, kind).values()]
