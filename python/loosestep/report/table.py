"""The table at the end of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from loosestep import units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.report.outcome import Outcome

ABSENT = "-"
ROOMY = 100  # columns of a terminal from which on there is room for margins
NUMBERS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("samples/s", "samples_per_second", lambda value: f"{value:,.0f}"),
    ("sent by\na worker", "bytes_sent", units.size),
    ("waiting", "waiting_share", units.share),
    ("consensus\ndistance", "consensus_distance", lambda value: f"{value:.2g}"),
)


def table(outcomes: Sequence[Outcome], target: float | None = None, width: int = 100) -> Table:
    """A row a method, the best of a column with a star; a method that diverged says so in its row."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if width >= ROOMY else 0, 0, 0))
    columns = [*_ranked(outcomes, target), *_plain(outcomes)]
    shown.add_column("method", overflow="fold", vertical="bottom", min_width=12)
    for title, _ in columns:
        shown.add_column(title, justify="right", no_wrap=True, vertical="bottom")
    for index, outcome in enumerate(outcomes):
        shown.add_row(outcome.strategy, *(cells[index] for _, cells in columns))
    return shown


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What the table cannot hold: the meaning of its marks, and what became of methods without numbers."""
    marks = "* best of its column; loss is that of the test rows"
    virtual = "; (v) virtual seconds" if any(outcome.virtual for outcome in outcomes) else ""
    problems = [f"{outcome.strategy}: {outcome.problem}" for outcome in outcomes if outcome.problem]
    return [marks + virtual, *problems]


def _ranked(outcomes: Sequence[Outcome], target: float | None) -> list[tuple[str, list[str]]]:
    """Columns in which one is best."""
    unit = "\n(v)" if any(outcome.virtual for outcome in outcomes) else ""
    accuracies = [outcome.test_accuracy for outcome in outcomes]
    columns = [
        ("test\naccuracy", _starred(accuracies, lambda value: f"{value:.4f}", max)),
        ("loss", _starred([outcome.loss for outcome in outcomes], lambda value: f"{value:.4f}", min)),
        ("seconds" + unit, _starred([outcome.value("seconds") for outcome in outcomes], units.seconds, min)),
    ]
    if target is not None:
        reached = [outcome.seconds_to(target) for outcome in outcomes]
        columns.append((f"seconds\nto {target:g}", _starred(reached, units.seconds, min)))
    _say_diverged(columns[0][1], outcomes)
    return columns


def _plain(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    return [
        (title, [ABSENT if (value := one.value(name)) is None else shown(value) for one in outcomes])
        for title, name, shown in NUMBERS
    ]


def _starred(
    values: Sequence[float | None], shown: Callable[[float], str], best: Callable[[list[float]], float]
) -> list[str]:
    there = [value for value in values if value is not None]
    winner = best(there) if len(there) > 1 else None
    stars = ["*" if value == winner and value is not None else " " for value in values]
    return [
        ABSENT + " " if value is None else shown(value) + star for value, star in zip(values, stars, strict=True)
    ]


def _say_diverged(cells: list[str], outcomes: Sequence[Outcome]) -> None:
    for index, outcome in enumerate(outcomes):
        if not outcome.finished:
            cells[index] = "diverged"
