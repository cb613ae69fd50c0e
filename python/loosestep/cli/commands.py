"""The command line: `loosestep compare`, `train`, `run`, `probe`, `plan`, `stalls` and `info`."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import loosestep
from loosestep import data
from loosestep.cli import launch, machine_info
from loosestep.cli.compared_methods import (
    STORY,
    Contender,
    contender,
    slow_link,
    with_one_optimizer,
    with_the_rest,
)
from loosestep.cli.comparison import Comparison
from loosestep.cli.experiment import Experiment
from loosestep.cli.expressions import parse
from loosestep.cli.options import (
    LARGE,
    MANY,
    SMALL,
    WORDS,
    Expression,
    all_of_kind,
    at_least_one,
    debug,
    shared_options,
)
from loosestep.cli.plan import plan
from loosestep.cli.plan_methods import methods
from loosestep.cli.probe import probe
from loosestep.cli.report import files, plot
from loosestep.cli.stalls import stalls
from loosestep.foundation.errors import LoosestepError
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.sgd import Nesterov
from loosestep.runtime.checkpoint.folder import KEEP, holds
from loosestep.strategies.base import Need, Strategy
from loosestep.transports.base import Transport

PYTHON = re.compile(r"python[\d.]*")
EVALUATIONS = 3  # in an epoch of a comparison, which shows when an accuracy was reached
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
PLAIN_WIDTH = 130  # columns where the output is no terminal
FORESEEN = (LoosestepError, ValueError, TypeError, OSError, ImportError)  # their texts are sentences


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0, 1 for a failure, 2 for wrong use, 130 after Ctrl-C, 143 after SIGTERM."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        return int(cli.main(given, prog_name="loosestep", standalone_mode=False) or 0)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted", err=True)
        return INTERRUPTED
    except Exception as error:
        if "--debug" in given:
            raise
        known = isinstance(error, FORESEEN) and str(error)
        click.echo(f"Error: {error if known else f'{type(error).__name__}: {error}'}", err=True)
        return 1


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(loosestep.__version__)
def cli() -> None:
    """Parallel SGD that need not march in lockstep.

    Strategies, models, optimizers and transports are written as in the Python API: 'EASGD(period=10)',
    'MLP(64)', 'SGD(0.1)', 'Simulated(64, latency=5e-3, bandwidth=12.5e6)'; rate schedules and stragglers also
    with their namespace, 'Simulated(8, stragglers=stragglers.LogNormal(0.3))'. Files that a command writes replace
    those of the same name.
    """


cli.add_command(probe)
cli.add_command(plan)
plan.add_command(methods)


@cli.command()
@click.option(
    "--strategies",
    type=Expression(Strategy, many=True),
    metavar="LIST",
    help="Which to compare, separated by commas, or 'all'; ten rows by default.",
)
@click.option("--all", "everything", is_flag=True, help="After the ten rows, all other strategies.")
@click.option(
    "--seeds",
    type=at_least_one,
    default=3,
    show_default=True,
    metavar="N",
    help="How many: --seed and those after it. The table has means and standard deviations.",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Try each learning rate, a third and three times of it, on a further seed; show the best.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1),
    help="Show the seconds to this test accuracy; by default to 97% of the best one.",
)
@shared_options
def compare(
    strategies: list[Strategy] | None,
    everything: bool,
    seeds: int,
    tune: bool,
    target: float | None,
    json_file: str | None,
    out: str | None,
    **options: Any,
) -> int:
    """Train one model with several strategies, and say how far each gets, how soon, with how many bytes.

    With no options: ten rows, three seeds, on handwritten digits, with four simulated workers that are joined by
    links of 100 Mbit/s. Their steps vary, and one worker takes twice as long; seconds are the simulator's. Some
    rows have a learning rate of their own; with --optimizer all have that one. A strategy that diverges gets a
    row that says so; one that ends as another of the table does is marked 'as X here'. Of numbers that differ by
    no more than one test row or the spread of the seeds none gets the star of the best.
    """
    contenders = chosen(strategies, everything, options["optimizer"] is not None)
    contenders = dealable(contenders, named=strategies is not None, **options)
    check_files(json_file, out)
    options["on"] = options["on"] or slow_link(options["workers"] or 4)
    shown = range(options["seed"], options["seed"] + seeds)
    described = experiment(evaluations=EVALUATIONS, **options)
    json_file, out = of_rank_0(described.on, json_file, out)
    there, tuning = console(json_file, described.on), shown.stop if tune else None
    comparison = Comparison(described, contenders, there, out, seeds=shown, tuning=tuning)
    try:
        with comparison:
            comparison.compare()
    except Exception:
        comparison.tell(target)  # what was finished is not lost
        raise
    return finish(comparison, json_file, target)


@cli.command()
@click.option("--strategy", type=Expression(Strategy), required=True, metavar="STRATEGY",
              help="Such as 'EASGD(period=10)'.")  # fmt: skip
@click.option("--checkpoint", metavar="DIR", help="Save there, so that --resume can go on.")
@click.option(
    "--checkpoint-every", type=at_least_one, metavar="N", help="Local steps between; by default an epoch."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one.")
@click.option("--keep", type=at_least_one, metavar="N", help="Checkpoints that stay; by default 2.")
@click.option("--save", metavar="FILE", help="Write the trained parameters, as safetensors.")
@click.option("--probe", "probe_file", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Of loosestep probe: say how long it will take, and then how far that was.")  # fmt: skip
@shared_options
def train(
    strategy: Strategy,
    checkpoint: str | None,
    checkpoint_every: int | None,
    resume: bool,
    keep: int | None,
    save: str | None,
    probe_file: str | None,
    json_file: str | None,
    out: str | None,
    **options: Any,
) -> int:
    """Train a model with one strategy."""
    check_checkpoint(checkpoint, checkpoint_every, resume, keep)
    check_files(json_file, out, save)
    described = experiment(**options)
    json_file, out, save = of_rank_0(described.on, json_file, out, save)
    there, only = console(json_file, described.on), [Contender(strategy)]
    prediction = described.predicted(strategy, probe_file) if probe_file else None
    if prediction is not None:
        there.print(f"predicted: {prediction}", markup=False, soft_wrap=True)
    with Comparison(described, only, there, out, more=resume) as training:
        every = None if checkpoint is None else checkpoint_every or described.steps_per_epoch
        saving = {"checkpoint": checkpoint, "checkpoint_every": every, "resume": resume, "keep": keep or KEEP}
        training.train(**saving)
    if save is not None:
        training.save(save)
    code = finish(training, json_file)
    if prediction is not None and training.result is not None and not training.interrupted and not resume:
        there.print(prediction.against(training.result), markup=False, soft_wrap=True)
    return code


@cli.command(context_settings={"allow_interspersed_args": False})
@click.option("-n", "ranks", type=at_least_one, required=True, metavar="N", help="How many ranks.")
@click.option("--hosts", metavar="LIST", help="Where, and how many on each, as in 'one:4,two:4'; here by default.")
@click.option("--wire", type=click.Choice(["mpi", "zmq"]), default="mpi", show_default=True,
              help="What joins the ranks; zmq needs no MPI.")  # fmt: skip
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=math.inf, metavar="S",
              help="End the job after that many seconds, with exit code 124.")  # fmt: skip
@click.option("--linger", type=click.FloatRange(0), default=60.0, show_default=True, metavar="S",
              help="Seconds for the other ranks after one failed (5 at most if its run had not begun); "
                   "inf lets them go on.")  # fmt: skip
@click.option("--tag", is_flag=True, help="Begin each line of output with its rank.")
@click.option("-m", "module", metavar="MODULE", help="Run a module instead of a script.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")
def run(
    ranks: int,
    hosts: str | None,
    wire: str,
    deadline: float,
    linger: float,
    tag: bool,
    module: str | None,
    program: tuple[str, ...],
) -> int:
    """Run a Python script on N ranks, joined by MPI or by ZeroMQ.

    Finds the MPI of this environment, else the one on the PATH; with --wire zmq it starts the ranks itself. Ctrl-C
    and SIGTERM reach the ranks once, so that they finish and save; a second one ends them. The exit code is 0 if
    every rank's was.
    """
    if module is None and not program:
        raise click.UsageError("what is to run? Give a SCRIPT, or -m MODULE")
    if module is None:
        check_script(program)
    if wire == "zmq" and hosts is not None:
        raise click.UsageError("--hosts goes with --wire mpi; ranks on other machines join if srun starts them")
    python = [sys.executable, *(["-m", module] if module else []), *program]
    try:
        return launch.launch(python, ranks, hosts, tag, launch.Limits(deadline, linger), wire)
    except launch.NoMpi as error:
        raise click.UsageError(str(error)) from error


def check_script(program: Sequence[str]) -> None:
    """Say before ranks are started what is wrong with what was given in a script's place."""
    first, *rest = program
    if PYTHON.fullmatch(Path(first).name):
        told = f", so leave it out: {' '.join(rest)}" if rest else ""
        raise click.UsageError(f"{first} is no script: every rank's Python is this one{told}")
    if not Path(first).is_file():
        raise click.UsageError(f"there is no script {first}")


@cli.command()
@click.option("--json", "json_file", metavar="FILE", help="Write what was found; - is standard output.")
@debug
def info(json_file: str | None) -> int:
    """What this machine offers, what is installed, and whether the native core works."""
    check_files(json_file)
    found = machine_info.inspect_machine()
    console(json_file).print(machine_info.as_text(found), markup=False, soft_wrap=True)
    write_json(json_file, found)
    return 1 if found["self_test"]["failed"] else 0


cli.add_command(stalls)


def chosen(strategies: list[Strategy] | None, everything: bool, one_optimizer: bool) -> list[Contender]:
    """Return the contenders: those asked for, or the default ones, with all others if everything is wanted."""
    if strategies is not None and everything:
        raise click.UsageError("--all and --strategies contradict each other: give one of them")
    if strategies is not None:
        each = Contender if one_optimizer else contender
        return [each(strategy) for strategy in dict.fromkeys(strategies)]
    contenders = with_the_rest(all_of_kind(Strategy)) if everything else list(STORY)
    return with_one_optimizer(contenders) if one_optimizer else contenders


def dealable(
    contenders: list[Contender], *, named: bool, by_label: bool, fraction: float | None, **others: Any
) -> list[Contender]:
    """Return the contenders that can be compared where rows belong to workers: no global batches then."""
    option = "--by-label" if by_label else "--fraction" if fraction is not None else None
    bound = [each for each in contenders if option and Need.GLOBAL_BATCHES in each.strategy.needs]
    if bound and named:
        raise click.UsageError(f"{option} deals rows to workers for good, and {bound[0]} shares them out anew")
    for each in bound:
        click.echo(f"left out: {each} shares out rows anew, and {option} deals them to workers for good", err=True)
    return [each for each in contenders if each not in bound]


def experiment(
    source: str,
    data_folder: str | None,
    workers: int | None,
    on: Transport | None,
    batch: int | None,
    optimizer: Optimizer | None,
    **options: Any,
) -> Experiment:
    """Return the experiment that the options describe; report wrong use before anything is read."""
    on = transport(workers, on)
    try:
        read = data.find(source, data_folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    rows = read()
    batch = batch or (SMALL if len(rows.y_train) < MANY else LARGE)
    return Experiment(data=rows, on=on, batch=batch, optimizer=optimizer or Nesterov(0.03), **options)


def transport(workers: int | None, on: Transport | None) -> Transport:
    """Return the transport of the workers; refuse --workers and --on that contradict each other."""
    if on is None:
        threads: Transport = parse(f"Threads({workers or 4})", WORDS, Transport)
        return threads
    if workers not in (None, on.size):
        raise click.UsageError(f"--workers {workers} contradicts --on {on!r}, which has {on.size} workers")
    return on


def check_checkpoint(folder: str | None, every: int | None, resume: bool, keep: int | None) -> None:
    """Say before a run what makes no sense of the four options together."""
    if folder is None and (every or resume or keep):
        raise click.UsageError(
            "--checkpoint-every, --keep and --resume need --checkpoint DIR, the folder to save to"
        )
    if folder is not None and not resume and holds(folder):
        raise click.UsageError(f"{folder} holds a checkpoint: give --resume to go on from it, or another folder")


def check_files(json_file: str | None, out: str | None = None, save: str | None = None) -> None:
    """Say before a run, not after it, what cannot be written."""
    files.check_folders(json_file, save)
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise click.UsageError(f"cannot write to --out {out}: it is no folder")
    if out is not None:
        plot.check()


def of_rank_0(on: Transport, *names: str | None) -> list[str | None]:
    """Return the files that this process writes: none on another rank, which would overwrite rank 0's."""
    return [file if files.speaks(on) else None for file in names]


def console(json_file: str | None, on: Transport | None = None) -> Console:
    """Return the console for people: standard output, or standard error if the JSON goes to standard output."""
    there = Console(stderr=json_file == "-", highlight=False, quiet=not files.speaks(on))
    if not there.is_terminal:
        there.width = PLAIN_WIDTH
    return there


def finish(comparison: Comparison, json_file: str | None, target: float | None = None) -> int:
    """Show and write what came out; the exit code."""
    comparison.tell(target)
    write_json(json_file, comparison.rows(target))
    comparison.draw()
    if comparison.interrupted:
        click.echo(f"Interrupted: {comparison.stopped()}", err=True)
        return 128 + comparison.interrupted
    return 0 if any(row.finished for row in comparison.summaries()) else 1


def write_json(file: str | None, content: Any) -> None:
    """Write the content as JSON to a file, or for - to standard output."""
    if file == "-":
        click.echo(files.dumped(content), nl=False)
    elif file is not None:
        files.write_json(file, content)
