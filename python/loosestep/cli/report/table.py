"""The table at the end of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from loosestep.cli.report.ranking import leader
from loosestep.cli.report.summary import copies
from loosestep.foundation import units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.cli.report.summary import Number, Summary

ABSENT = "-"
ROOMY = 100  # columns of a terminal from which on there is room for margins
NAME = 24  # columns that a name may ask for; longer ones go on in the next line


@dataclass(frozen=True)
class Column:
    """A number of every row: how it prints, and whether more or less is best. Without `most` it is not ranked."""

    title: str
    numbers: list[Number | None]
    shown: Callable[[float], str]
    spread: bool = False
    most: bool | None = None
    unit: float = 0.0  # a lead must be larger

    def cells(self, ranked: Sequence[bool], sign: str) -> list[str]:
        """Return the text of each row, the best of the ranked ones with a star."""
        best = None
        if self.most is not None:
            rivals = [number if ok else None for number, ok in zip(self.numbers, ranked, strict=True)]
            best = leader(rivals, most=self.most, unit=self.unit)
        stars = ["" if self.most is None else "*" if place == best else " " for place in range(len(self.numbers))]
        return [self.cell(number, sign) + star for number, star in zip(self.numbers, stars, strict=True)]

    def cell(self, number: Number | None, sign: str) -> str:
        """Return a text such as '0.9712 ±.0032'."""
        if number is None:
            return ABSENT
        text = self.shown(number.mean)
        if self.spread and number.spread is not None:
            decimals = len(text.partition(".")[2])
            text += f" {sign}{f'{number.spread:.{decimals}f}'.removeprefix('0')}"
        return text


@dataclass(frozen=True)
class Comparing:
    """Settings of a table: test rows, the accuracy to reach, the width, the sign of a spread."""

    test_rows: int
    target: float | None = None
    width: int = ROOMY
    sign: str = "±"

    @property
    def test_row(self) -> float:
        """The change of an accuracy by one test row."""
        return 1 / self.test_rows


def columns(summaries: Sequence[Summary], how: Comparing) -> list[Column]:
    """Return all columns, the most important ones first."""

    def over(name: str) -> list[Number | None]:
        return [one.number(name) for one in summaries]

    second = "virtual s" if any(one.virtual for one in summaries) else "seconds"
    accuracy = Column("test\naccuracy", over("test_accuracy"), "{:.4f}".format, True, True, how.test_row)
    found = [accuracy]
    if how.target is not None:
        reached = [one.seconds_to(how.target) for one in summaries]
        found.append(Column(f"{second}\nto {how.target:g}", reached, units.seconds, True, False))
    each = "virtual s" if second == "virtual s" else "s"
    return [
        *found,
        Column(f"{second}\nin all", over("seconds"), units.seconds, most=False),
        Column("sent by\na worker", over("bytes_sent"), units.size),
        Column("waiting", over("waiting_share"), units.share),
        Column("test\nloss", over("loss"), "{:.4f}".format, True, False),
        Column(f"samples/\n{each}", over("samples_per_second"), "{:,.0f}".format),
        Column("consensus\ndistance", over("consensus_distance"), "{:.2g}".format),
    ]


def table(summaries: Sequence[Summary], how: Comparing) -> tuple[Table, list[str]]:
    """Return a table with a row per contender, and the titles of the columns for which there was no space."""
    same = copies(summaries)
    ranked = [place not in same and not one.linkless for place, one in enumerate(summaries)]
    margin = 1 if how.width >= ROOMY else 0
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, margin, 0, 0))
    names = [_name(summaries, place, same) for place in range(len(summaries))]
    shown.add_column("method", overflow="fold", vertical="bottom", min_width=12)
    parts: list[list[str]] = []
    if any(one.rate for one in summaries):
        shown.add_column("rate", justify="right", no_wrap=True, vertical="bottom")
        parts.append([one.rate for one in summaries])
    room = how.width - min(NAME, max(map(len, names))) - sum(_width("rate", cells, margin) for cells in parts)
    left_out = []
    for column in columns(summaries, how):
        cells = _cells(column, ranked, how.sign, same, summaries)
        room -= _width(column.title, cells, margin)
        if room < 0:
            left_out.append(column.title.replace("\n", " "))
            continue
        shown.add_column(column.title, justify="right", no_wrap=True, vertical="bottom")
        parts.append(cells)
    for place, name in enumerate(names):
        shown.add_row(name, *(cells[place] for cells in parts))
    return shown, left_out


def _width(title: str, cells: Sequence[str], margin: int) -> int:
    return max(map(len, [*title.split("\n"), *cells])) + 1 + margin


def _name(summaries: Sequence[Summary], place: int, same: dict[int, int]) -> str:
    one = summaries[place]
    if place not in same:
        return one.strategy
    return f"{one.strategy} as {summaries[same[place]].name} here"


def _cells(
    column: Column, ranked: Sequence[bool], sign: str, same: dict[int, int], summaries: Sequence[Summary]
) -> list[str]:
    """Return a column's texts: of a copy only what differs, of an unfinished row that it diverged."""
    cells = column.cells(ranked, sign)
    for place, one in enumerate(summaries):
        if place in same and column.numbers[place] == column.numbers[same[place]]:
            cells[place] = ""
        elif not one.finished and column.title.endswith("accuracy"):
            cells[place] = "diverged"
    return cells


def notes(summaries: Sequence[Summary], how: Comparing, left_out: Sequence[str] = ()) -> list[str]:
    """Return the notes below a table: the meaning of its marks, and why methods have no numbers."""
    lines = _about_chance(summaries, how)
    if any(one.virtual for one in summaries):
        lines.append("virtual s: seconds of the simulator's clock; nobody waited for them")
    for name in [one.strategy for one in summaries if one.linkless]:
        lines.append(f"{name}: its workers share one host's memory and send nothing, so it is not ranked")
    if left_out:
        lines.append(f"no room in {how.width} columns for: {', '.join(left_out)} (--json has them)")
    return [*lines, *(problem for one in summaries for problem in one.problems())]


def _about_chance(summaries: Sequence[Summary], how: Comparing) -> list[str]:
    seeds = max((len(one.outcomes) for one in summaries), default=0)
    row = f"one test row is {how.test_row:.2g}".replace("0.", ".")
    spread = f"mean {how.sign}standard deviation over {seeds} seeds; {row}"
    if len(summaries) < 2:
        return [row if seeds < 2 else spread]
    if seeds < 2:
        return [f"{row}; with one seed there is no spread, so no star says which is best (--seeds 3)"]
    return [
        spread,
        f"* best of its column, by more than the {how.sign} of either and, in accuracy, than one test row",
    ]
