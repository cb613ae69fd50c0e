"""The command `loosestep probe`: measures a cluster, for `Simulated.like` and the planner."""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loosestep.cli.options import Expression, at_least_one, debug
from loosestep.cli.report import files
from loosestep.foundation import units
from loosestep.planner.probing.measure import probe as measure
from loosestep.transports.base import Transport
from loosestep.transports.launched import joined
from loosestep.transports.simulated.probe import Probe
from loosestep.transports.threads import Threads

SHOWN = (8, 1 << 10, 64 << 10, 1 << 20, 8 << 20)  # bytes, of the rows of the table


class Step(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Seconds that a step sleeps, or FILE.py:FUNCTION, which is called without arguments."""

    name = "step"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Callable[[], object]:
        text = str(value)
        file, _, name = text.rpartition(":")
        if not file:
            try:
                seconds = float(text)
            except ValueError:
                return self.fail(f"{text!r} is neither seconds nor FILE.py:FUNCTION", param, ctx)
            if not 0 < seconds < float("inf"):
                return self.fail(f"a step takes more than 0 seconds, got {text}", param, ctx)
            return partial(time.sleep, seconds)
        if not Path(file).is_file():
            return self.fail(f"there is no file {file}", param, ctx)
        found = runpy.run_path(file).get(name)
        if not callable(found):
            return self.fail(f"{file} has no function {name}", param, ctx)
        function: Callable[[], object] = found
        return function


@click.command()
@click.option("--on", type=Expression(Transport), metavar="TRANSPORT",
              help="What joins the workers; a launcher's processes by default, else threads.")  # fmt: skip
@click.option("--workers", type=at_least_one, default=4, show_default=True, help="Threads, without a launcher.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, metavar="S",
              help="About how long to measure.")  # fmt: skip
@click.option("--step", type=Step(), default="0.02", show_default=True, metavar="S|FILE.py:FUNCTION",
              help="A gradient step: seconds to sleep, or a function that computes one.")  # fmt: skip
@click.option(
    "--json", "json_file", metavar="FILE", help="Write the probe, for Simulated.like; - is standard output."
)
@debug  # fmt: skip
def probe(
    on: Transport | None, workers: int, seconds: float, step: Callable[[], object], json_file: str | None
) -> int:
    """Measure what steps and messages take here: latency, bandwidth, and the small prices of the simulator.

    Every process of a job calls it: loosestep run -n 4 -m loosestep probe --json probe.json. The workers are then
    those that were started; rank 0 prints and writes.
    """
    files.check_folders(json_file)
    place = on or joined() or Threads(workers)
    found = measure(place, seconds=seconds, step=step)
    if files.speaks(place):
        console = Console(stderr=json_file == "-", highlight=False)
        console.print(table(found))
        console.print(summary(found), markup=False, soft_wrap=True)
        if json_file == "-":
            click.echo(found.text(), nl=False)
        elif json_file is not None:
            found.write(json_file)
    return 0


def table(found: Probe) -> Table:
    """Return how long the patterns took, a row each."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("pattern")
    for title in ("a message", "ms", "± ms"):
        made.add_column(title, justify="right")
    for each in found.measured:
        if each.nbytes in SHOWN or each.pattern.startswith(("read", "all")):
            times = f"{1e3 * each.seconds:.3g}", f"{1e3 * each.spread:.2g}"
            made.add_row(each.pattern, units.size(each.nbytes), *times)
    return made


def summary(found: Probe) -> str:
    """Return what the patterns mean, in a few lines."""
    prices, hosts = found.prices, len(found.hosts)
    lines = [
        f"{units.times(found.n, 'worker')} on {units.times(hosts, 'host')}, {found.transport}, {found.machine}; "
        f"measured in {found.seconds:.0f} s",
        f"a step takes {1e3 * found.step_time:.4g} ms",
    ]
    if found.n > 1:
        lines += [
            f"a message takes {1e3 * found.latency:.3g} ms and {8e-6 * found.bandwidth:.4g} Mbit/s",
            f"sender and receiver spend {1e6 * prices.send:.3g} us each on a message",
            f"a worker that computes answers {1e3 * prices.turn:.2g} ms later",
        ]
    return "\n".join(lines)
