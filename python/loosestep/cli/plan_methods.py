"""The command `loosestep plan methods`: which strategy, period, codec and buckets suit a model and its links."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from loosestep.cli import blas_threads
from loosestep.cli.expressions import ExpressionError, parse
from loosestep.cli.options import WORDS, Expression, at_least_one, debug
from loosestep.cli.plan import Numbers, not_negative, positive
from loosestep.cli.report import files, plan_plot, plan_table, plot
from loosestep.codecs.base import Codec
from loosestep.data import models
from loosestep.optimizers import Optimizer
from loosestep.planner.methods import PRESETS, Candidate, MethodPlan, SmallProblem, Tariff, Trial, named, plan
from loosestep.planner.methods.candidates import OBJECTIVES, Objective
from loosestep.planner.methods.grid import BUCKETS, PERIODS
from loosestep.requests.links import Links
from loosestep.strategies.base import Strategy
from loosestep.transports.simulated.transport import Simulated

Command = TypeVar("Command", bound=Callable[..., Any])


class LinksText(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Links by name or by numbers."""

    name = "links"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return named(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


WIDTH = 160  # columns where the output is no terminal: a whole run takes more of them than a step
SMALL = SmallProblem()
OPTIONS = (
    click.option("--parameters", type=at_least_one, metavar="N", help="Of the model, float32."),
    click.option("--module", metavar="MODULE:NAME",
                 help="Instead: a torch module, or what makes one, such as torchvision.models:resnet50."),
    click.option("--on", type=Expression(Simulated), metavar="CLUSTER",
                 help="Such as 'Simulated(16, step_time=0.2, latency=5e-3, bandwidth=12.5e6)'."),
    click.option("--probe", metavar="FILE", help="Instead of --on: what `loosestep probe` has measured."),
    click.option("--workers", type=at_least_one, metavar="N",
                 help="Instead of --on: how many workers; with --probe as many of its kind."),
    click.option("--hosts", type=Numbers(), metavar="LIST",
                 help="How many of them live on each host, as in 8,8; by default each has its own."),
    click.option("--links", type=LinksText(), metavar="LINKS",
                 help=f"Between hosts: '5 ms, 100 Mbit/s', or one of {', '.join(PRESETS)}."),
    click.option("--step-time", type=positive, metavar="SECONDS",
                 help="Of a local step, computing alone; with --probe in place of the measured one."),
    click.option("--strategies", type=Expression(Strategy, many=True), metavar="LIST",
                 help="Which to try, separated by commas; by default all."),
    click.option("--periods", type=Numbers(), default=PERIODS, metavar="LIST",
                 help=f"Local steps between communications to try; by default {', '.join(map(str, PERIODS))}."),
    click.option("--codecs", type=Expression(Codec, many=True), metavar="LIST",
                 help="Which to try, beside none, where a strategy takes one; by default all."),
    click.option("--buckets", type=Numbers(), default=BUCKETS, metavar="LIST",
                 help="Bytes of a bucket of the gradient to try; by default 1, 4, 25 and 100 MiB."),
    click.option("--minimize", type=click.Choice(OBJECTIVES), default="seconds", show_default=True,
                 help="What is ranked by, of the run to a loss, or of a step."),
    click.option("--worker-hour", type=not_negative, default=0.0, metavar="PRICE",
                 help="Of one worker for an hour."),
    click.option("--gigabyte", type=not_negative, default=0.0, metavar="PRICE",
                 help="Of 10^9 bytes that are sent."),
    click.option("--waiting", type=click.FloatRange(0, 1), default=0.1, show_default=True, metavar="SHARE",
                 help="Where the steps to a loss are not known: how much of the time workers may wait; of each "
                      "method the shortest period is ranked that allows it."),
    click.option("--steps", "steps_file", metavar="FILE",
                 help="Local steps to a loss by strategy, as JSON: {\"LocalSGD(period=8)\": 12000, ...}."),
    click.option("--loss", type=positive, metavar="LOSS",
                 help=f"Count the steps to this training loss, such as {SMALL.loss}, with numbers, on a small "
                      "problem; takes minutes."),
    click.option("--run", "trials", type=at_least_one, metavar="N",
                 help="Run the best N with numbers on the small problem, on two seeds of their own."),
    click.option("--data", default=SMALL.data, show_default=True, metavar="NAME|FILE.npz",
                 help="Of the small problem."),
    click.option("--model", type=Expression(models.Model), default=repr(SMALL.model), show_default=True,
                 metavar="MODEL", help="Of the small problem."),
    click.option("--optimizer", type=Expression(Optimizer), default=repr(SMALL.optimizer), show_default=True,
                 metavar="OPTIMIZER", help="Of the small problem, with the best of three learning rates."),
    click.option("--batch", type=at_least_one, default=SMALL.batch, show_default=True, metavar="N",
                 help="Rows of a worker's batch in the small problem."),
    click.option("--longest", type=at_least_one, default=SMALL.longest, show_default=True, metavar="N",
                 help="Local steps after which a run of the small problem is given up."),
    click.option("--top", type=at_least_one, default=10, show_default=True, metavar="N",
                 help="How many rows to show."),
    click.option("--json", "json_file", metavar="FILE",
                 help="Write all that was predicted; - is standard output."),
    click.option("--plot", "plot_file", metavar="FILE", help="Write a PNG: cost by period, and seconds by bytes."),
    debug,
)  # fmt: skip


def all_options(command: Command) -> Command:
    """Add the options of `plan methods`."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(OPTIONS), command)


@click.command()
@all_options
def methods(
    strategies: Sequence[Strategy] | None,
    periods: Sequence[int],
    codecs: Sequence[Codec] | None,
    buckets: Sequence[int],
    minimize: Objective,
    worker_hour: float,
    gigabyte: float,
    waiting: float,
    steps_file: str | None,
    loss: float | None,
    trials: int | None,
    top: int,
    json_file: str | None,
    plot_file: str | None,
    **options: Any,
) -> int:
    """Rank strategies, with their periods, codecs and buckets, for a model, its workers and their links.

    Each is priced by replaying its code on the simulator's clock, without numbers. With --loss or --steps the
    ranking is of whole runs to a loss; without, of a step, and each method has the shortest period that waits no
    longer than --waiting, since a shorter period is nearer to minibatch SGD.
    """
    files.check_folders(json_file, plot_file)
    if plot_file is not None:
        plot.check("--plot")
    if loss is not None and steps_file is not None:
        raise click.UsageError("--loss and --steps contradict each other: give one of them")
    console = Console(stderr=json_file == "-", highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    given = read_steps(steps_file)
    found = plan(
        model_of(options["parameters"], options["module"]),
        cluster_of(**{name: options[name] for name in ("on", "probe", "workers", "hosts", "links", "step_time")}),
        minimize=minimize,
        steps=given,
        strategies=strategies,
        periods=periods,
        codecs=codecs,
        buckets=buckets,
        tariff=Tariff(worker_hour, gigabyte),
        waiting=waiting,
    )
    problem = problem_of(loss, options)
    if loss is not None:
        found = counted(found, problem, console)
    console.print(plan_table.table(found, top))
    about = plan_table.counting(problem) if loss is not None else []
    say(console, [found.why, *plan_table.notes(found, named=strategies is not None), *about])
    content = plan_table.as_json(found)
    if trials is not None:
        runs = with_numbers(found, problem, trials)
        console.print(plan_table.trials(runs))
        say(console, [plan_table.finding(runs, problem)])
        content["runs"] = plan_table.trials_as_json(runs)
    if json_file is not None:
        click.echo(files.dumped(content), nl=False) if json_file == "-" else files.write_json(json_file, content)
    if plot_file is not None:
        plan_plot.draw(found, top, Path(plot_file))
        say(console, [f"wrote {plot_file}"])
    return 0


def say(console: Console, lines: Sequence[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def model_of(parameters: int | None, module: str | None) -> Any:
    """Return the number of parameters, or the module that was named."""
    if (parameters is None) == (module is None):
        raise click.UsageError("give the size of the model: --parameters, or --module")
    return parameters if module is None else imported(module)


def imported(text: str) -> Any:
    """Return what 'package.module:name' names; a function is called, for it makes the module."""
    where, colon, name = text.partition(":")
    if not colon:
        raise click.UsageError(f"--module must be MODULE:NAME, as in torchvision.models:resnet50, got {text!r}")
    sys.path.insert(0, str(Path.cwd()))  # as for `python -m`
    try:
        value = getattr(import_module(where), name)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"cannot import --module {text}: {error}") from error
    finally:
        sys.path.pop(0)
    made = value() if callable(value) and (isinstance(value, type) or not hasattr(value, "parameters")) else value
    if not hasattr(made, "parameters"):
        raise click.UsageError(f"--module {text} is a {type(made).__name__}, which has no parameters()")
    return made


def cluster_of(
    on: Simulated | None,
    probe: str | None,
    workers: int | None,
    hosts: tuple[int, ...] | None,
    links: Links | None,
    step_time: float | None,
) -> Simulated:
    """Return the cluster that the options describe."""
    others = {"--workers": workers, "--hosts": hosts, "--links": links, "--step-time": step_time}
    given = [name for name, value in others.items() if value is not None]
    if on is not None:
        if given or probe:
            raise click.UsageError(f"{given[0] if given else '--probe'} and --on contradict each other")
        return on
    if probe is not None:
        if hosts is not None or links is not None:
            raise click.UsageError("--hosts and --links contradict --probe, which has measured them")
        found = Simulated.like(probe)
        found = found if workers is None else found.scaled(workers)
        return found if step_time is None else replace(found, step_time=step_time)
    missing = [name for name in others if name not in given and name != "--hosts"]
    if hosts is not None and workers is None:
        missing.remove("--workers")
    if missing:
        raise click.UsageError(f"describe the cluster: --on, --probe, or else {', '.join(missing)}")
    assert links is not None
    assert step_time is not None
    count = sum(hosts or ()) if workers is None else workers
    return Simulated(count, step_time, links.latency, links.bandwidth, hosts=hosts)


def read_steps(file: str | None) -> dict[Strategy, float] | None:
    """Return the steps of a file, by strategy."""
    if file is None:
        return None
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise click.UsageError(f"--steps {file} must hold one object, strategies with their steps")
        return {parse(text, WORDS, Strategy): steps for text, steps in content.items()}
    except (OSError, ValueError, ExpressionError) as error:
        raise click.UsageError(f"cannot read --steps {file}: {error}") from error


def problem_of(loss: float | None, options: dict[str, Any]) -> SmallProblem:
    """Return the small problem that the options describe."""
    named_ones = {name: options[name] for name in ("data", "model", "optimizer", "batch", "longest")}
    return SmallProblem(loss=SMALL.loss if loss is None else loss, **named_ones)


def counted(found: MethodPlan, problem: SmallProblem, console: Console) -> MethodPlan:
    """Return the plan ranked by the run to the loss, whose steps are counted with numbers."""
    with console.status("counting steps") as status:

        def note(trial: Trial) -> None:
            status.update(f"counting steps: {trial.strategy!r}")

        strategies = [each.strategy for each in found.tried]
        with blas_threads.one_thread():
            steps = problem.steps(strategies, found.on, found.parameters, note=note)
    if not steps:
        raise ValueError(f"no strategy came to a loss of {problem.loss:g} in {problem.longest} steps")
    return found.to_loss(steps)


def with_numbers(found: MethodPlan, problem: SmallProblem, count: int) -> dict[Candidate, list[Trial]]:
    """Return runs of the first choices with numbers."""
    with blas_threads.one_thread():
        return {each: problem.trials(each.strategy, found.on, found.parameters) for each in found.ranked[:count]}
