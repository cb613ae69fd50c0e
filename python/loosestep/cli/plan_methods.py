"""The command `loosestep plan methods`: which strategy, with which period, suits a model and its links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loosestep.cli.options import Expression, all_of_kind, at_least_one, debug
from loosestep.cli.plan import WIDTH, Numbers
from loosestep.cli.report import files
from loosestep.foundation import units
from loosestep.planner.methods import PERIODS, Methods, rank
from loosestep.planner.prediction import Prediction
from loosestep.strategies.base import Strategy
from loosestep.transports.simulated.transport import Simulated


@click.command()
@click.option("--parameters", type=at_least_one, required=True, metavar="N", help="Of the model, float32.")
@click.option(
    "--on",
    type=Expression(Simulated),
    required=True,
    metavar="CLUSTER",
    help="Such as 'Simulated(16, step_time=0.2, latency=5e-3, bandwidth=12.5e6)'.",
)
@click.option(
    "--strategies",
    type=Expression(Strategy, many=True),
    metavar="LIST",
    help="Which to predict, separated by commas; by default all.",
)
@click.option(
    "--periods",
    type=Numbers(),
    default=PERIODS,
    metavar="LIST",
    help=f"Local steps between communications to try; by default {', '.join(map(str, PERIODS))}.",
)
@click.option(
    "--waiting",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="How much of the time workers may wait: each row has the shortest period that allows it.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all predictions; - is standard output.")
@debug  # fmt: skip
def methods(
    parameters: int,
    on: Simulated,
    strategies: Sequence[Strategy] | None,
    periods: Sequence[int],
    waiting: float,
    json_file: str | None,
) -> int:
    """Predict what steps take, how long workers wait and what they send, and choose a period for each method.

    Nothing is trained: the code of each strategy is replayed on the simulator's clock. A shorter period is nearer
    to minibatch SGD, so each row has the shortest one that waits no longer than --waiting.
    """
    files.check_folders(json_file)
    found = rank(list(strategies or all_of_kind(Strategy)), parameters, on, waiting=waiting, periods=periods)
    console = Console(stderr=json_file == "-", highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(found))
    console.print(str(found), markup=False, soft_wrap=True)
    for strategy, reason in found.refused if strategies else ():
        console.print(f"left out {strategy!r}: {reason}", markup=False, soft_wrap=True)
    if json_file is not None:
        content = as_json(found)
        click.echo(files.dumped(content), nl=False) if json_file == "-" else files.write_json(json_file, content)
    return 0


def table(found: Methods) -> Table:
    """Return the choices, a row each."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("strategy", overflow="fold")
    for title in ("step s", "waiting", "sent a step", "messages a step"):
        made.add_column(title, justify="right")
    for each in found.chosen:
        made.add_row(
            repr(each.strategy),
            units.seconds(each.step_seconds),
            units.share(each.waiting_share),
            units.size(each.bytes_sent / each.steps),
            f"{each.messages / each.steps:.3g}",
        )
    return made


def as_json(found: Methods) -> dict[str, Any]:
    """Return all that was found, with units in the names."""

    def row(each: Prediction) -> dict[str, Any]:
        return {
            "strategy": repr(each.strategy),
            "step_seconds": each.step_seconds,
            "waiting_share": each.waiting_share,
            "sent_bytes_per_step": each.bytes_sent / each.steps,
            "messages_per_step": each.messages / each.steps,
        }

    return {
        "parameters": found.parameters,
        "on": repr(found.on),
        "waiting": found.waiting,
        "average_seconds": found.average_seconds,
        "chosen": [row(each) for each in found.chosen],
        "tried": [row(each) for each in found.tried],
        "refused": [{"strategy": repr(strategy), "reason": reason} for strategy, reason in found.refused],
    }
