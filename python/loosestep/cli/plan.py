"""The commands `loosestep plan ...`: what a run will cost on machines that are described by numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import reduce
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table

from loosestep.cli.options import at_least_one, debug
from loosestep.cli.report import files
from loosestep.foundation import units
from loosestep.planner.parallelism.distribution import Training, distributed
from loosestep.planner.parallelism.estimator import Estimate
from loosestep.planner.parallelism.hardware import Hardware, Link
from loosestep.planner.parallelism.models import Model, mlp, transformer
from loosestep.planner.parallelism.schedules import SCHEDULES
from loosestep.planner.parallelism.search import Ranking, gigabytes, search
from loosestep.planner.parallelism.simulator import simulate
from loosestep.planner.parallelism.trace import chrome_trace

Command = TypeVar("Command", bound=Callable[..., Any])
WIDTH = 110  # columns where the output is no terminal
positive = click.FloatRange(0, min_open=True)
not_negative = click.FloatRange(0)


class Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Whole numbers from 1 on, separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(int(word) for word in value.split(","))
        except ValueError:
            return self.fail(f"wanted whole numbers separated by commas, got {value!r}", param, ctx)
        if min(numbers) < 1:
            return self.fail(f"wanted numbers from 1 on, got {value!r}", param, ctx)
        return numbers


OPTIONS = (
    click.option("--devices", type=at_least_one, required=True, metavar="N", help="How many devices."),
    click.option("--batch", type=at_least_one, required=True, metavar="N",
                 help="Samples of a training step, of all devices together."),
    click.option("--mlp", "widths", type=Numbers(), metavar="LIST",
                 help="An MLP of these widths: inputs, hidden layers, classes. By default a transformer."),
    click.option("--layers", type=at_least_one, metavar="N", default=24, show_default=True,
                 help="Of the transformer."),
    click.option("--width", type=at_least_one, metavar="N", default=1024, show_default=True,
                 help="Of the transformer's rows."),
    click.option("--heads", type=at_least_one, metavar="N", default=16, show_default=True,
                 help="Of its attention."),
    click.option("--sequence", type=at_least_one, metavar="N", default=1024, show_default=True,
                 help="Rows of a sample."),
    click.option("--classes", type=at_least_one, metavar="N", default=50304, show_default=True,
                 help="Its vocabulary."),
    click.option("--value-bytes", type=at_least_one, default=4, show_default=True, metavar="N",
                 help="Bytes of a parameter, gradient or activation."),
    click.option("--state-bytes", type=click.IntRange(min=0), default=8, show_default=True, metavar="N",
                 help="Bytes of optimizer state for each parameter: 0 SGD, 4 momentum, 8 Adam."),
    click.option("--flops", type=positive, default="100e12", show_default=True, metavar="OPS/S",
                 help="Operations a second that a device reaches in a matrix product."),
    click.option("--memory-bandwidth", type=positive, default="1e12", show_default=True, metavar="BYTES/S",
                 help="Bytes a second between a device and its memory."),
    click.option("--memory", type=positive, default="40e9", show_default=True, metavar="BYTES",
                 help="Bytes of a device's memory."),
    click.option("--launch", type=not_negative, default="10e-6", show_default=True, metavar="SECONDS",
                 help="Seconds that each operation costs besides."),
    click.option("--per-host", type=at_least_one, default=8, show_default=True, metavar="N",
                 help="Devices of a host."),
    click.option("--host-latency", type=not_negative, default="5e-6", show_default=True, metavar="SECONDS",
                 help="Seconds of a message within a host."),
    click.option("--host-bandwidth", type=positive, default="100e9", show_default=True, metavar="BYTES/S",
                 help="Bytes a second of a device's link within its host."),
    click.option("--latency", type=not_negative, default="20e-6", show_default=True, metavar="SECONDS",
                 help="Seconds of a message between hosts."),
    click.option("--bandwidth", type=positive, default="10e9", show_default=True, metavar="BYTES/S",
                 help="Bytes a second of a device's link to other hosts."),
    *(click.option(f"--{name}", type=Numbers(), default=(), metavar="LIST", help=f"The {told} to try; else all.")
      for name, told in (("data", "replicas"), ("tensor", "devices that share a layer"), ("pipeline", "stages"),
                         ("microbatches", "numbers of microbatches"))),
    click.option("--schedule", type=click.Choice(SCHEDULES), help="Of the pipeline; by default both."),
    click.option("--top", type=at_least_one, default=10, show_default=True, metavar="N",
                 help="How many rows to show."),
    click.option("--json", "json_file", metavar="FILE", help="Write all configurations; - is standard output."),
    click.option("--trace", "trace_file", metavar="FILE",
                 help="Write the best one's step for chrome://tracing, one device of each stage."),
    debug,
)  # fmt: skip


def all_options(command: Command) -> Command:
    """Add the options of `plan parallelism`."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(OPTIONS), command)


@click.group(invoke_without_command=True)
@click.pass_context
def plan(context: click.Context) -> None:
    """Say what a run will cost on machines that are described by numbers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@plan.command()
@all_options
def parallelism(
    devices: int,
    batch: int,
    schedule: str | None,
    top: int,
    json_file: str | None,
    trace_file: str | None,
    **options: Any,
) -> int:
    """Rank all data x tensor x pipeline degrees and microbatches by the length of a training step.

    Every configuration of so many devices is priced operation by operation; those that do not fit in memory are
    left out. Times are seconds, sizes bytes (1 GB is 10^9 bytes). Defaults are those of no particular machine.
    """
    files.check_folders(json_file, trace_file)
    model, hardware = model_of(options), hardware_of(options)
    training = Training(batch, options["value_bytes"], options["state_bytes"])
    wanted = {name: options[name] for name in ("data", "tensor", "pipeline", "microbatches")}
    found = search(model, training, hardware, devices, **wanted, schedules=(schedule,) if schedule else SCHEDULES)
    best = found.best
    console = Console(stderr=json_file == "-", highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(found, batch, top))
    console.print(summary(found, batch), markup=False, soft_wrap=True)
    if json_file is not None:
        content = as_json(found, batch, hardware)
        click.echo(files.dumped(content), nl=False) if json_file == "-" else files.write_json(json_file, content)
    if trace_file is not None:
        program = distributed(
            model, training, best.degrees, list(best.cuts), per_host=hardware.per_host, alike=True
        )
        files.write_json(trace_file, chrome_trace(simulate(program, hardware)))
    return 0


def model_of(options: dict[str, Any]) -> Model:
    """Return the model that the options describe."""
    if options["widths"]:
        return mlp(*options["widths"])
    return transformer(*(options[name] for name in ("layers", "width", "heads", "sequence", "classes")))


def hardware_of(options: dict[str, Any]) -> Hardware:
    """Return the hardware that the options describe."""
    numbers = {name: options[name] for name in ("flops", "memory_bandwidth", "memory", "launch", "per_host")}
    within = Link(options["host_latency"], options["host_bandwidth"])
    return Hardware(**numbers, within=within, between=Link(options["latency"], options["bandwidth"]))


def table(found: Ranking, batch: int, top: int) -> Table:
    """Return the fastest configurations, a row each."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("data", "tensor", "pipeline", "microbatches"):
        made.add_column(title, justify="right")
    made.add_column("schedule")
    for title in ("step s", "samples/s", "memory GB", "idle", "sent GB"):
        made.add_column(title, justify="right")
    for each in found.fitting[:top]:
        degrees = each.degrees
        made.add_row(
            *map(str, (degrees.data, degrees.tensor, degrees.pipeline, degrees.microbatches)),
            degrees.schedule if degrees.pipeline > 1 else "",
            units.seconds(each.seconds),
            f"{batch / each.seconds:.3g}",
            f"{each.peak / 1e9:.3g}",
            units.share(max(each.idle, 0.0)),
            f"{each.sent / 1e9:.3g}",
        )
    return made


def summary(found: Ranking, batch: int) -> str:
    """Return what the table leaves out."""
    lines = [
        f"{found.devices} devices, a batch of {units.times(batch, 'sample')}: {len(found.fitting)} of "
        f"{units.times(found.count, 'configuration')} fit in {gigabytes(found.memory)} a device",
        "memory GB, sent GB: of the device that needs most; by a device in a step, the mean. idle: the share of "
        "the devices' time without arithmetic",
    ]
    reasons = Counter(reason for _, reason in found.refused)
    lines += [f"left out {count}: {reason}" for reason, count in sorted(reasons.items())]
    return "\n".join(lines)


def as_json(found: Ranking, batch: int, hardware: Hardware) -> dict[str, Any]:
    """Return all that was found, with units in the names."""

    def row(each: Estimate) -> dict[str, Any]:
        return {
            **asdict(each.degrees),
            "step_seconds": each.seconds,
            "samples_per_second": batch / each.seconds,
            "peak_bytes": each.peak,
            "fits": each.peak <= found.memory,
            "idle_share": each.idle,
            "sent_bytes": each.sent,
            "layers_of_stages": [[cut.start, cut.stop] for cut in each.cuts],
        }

    return {
        "devices": found.devices,
        "batch": batch,
        "hardware": asdict(hardware),
        "configurations": [row(each) for each in (*found.fitting, *found.too_large)],
        "refused": [{**asdict(degrees), "reason": reason} for degrees, reason in found.refused],
    }
