"""`loosestep stalls SCRIPT`: runs a PyTorch script until it is known where its loop waits for data."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loosestep.cli.options import at_least_one, debug
from loosestep.cli.report import files as outputs
from loosestep.data.stalls.rates import PIPELINES, Pipeline

if TYPE_CHECKING:
    from loosestep.torch.data.measured_loader import MeasuredLoader


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--batches", type=at_least_one, default=50, show_default=True, metavar="N",
              help="How many are timed in each run, if an epoch has as many.")  # fmt: skip
@click.option("--warmup", type=click.IntRange(min=0), metavar="N",
              help="Batches at the beginning of each run that are not timed; by default 5, or as many as the "
                   "loader's workers prefetch.")  # fmt: skip
@click.option("--files", multiple=True, type=click.Path(exists=True), metavar="PATH",
              help="What the data is read from, a file or folder; may be given several times. By default what "
                   "Python opens while the script runs.")  # fmt: skip
@click.option("--loader", "number", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="Which DataLoader, in the order in which the script first iterates them.")  # fmt: skip
@click.option("--pipeline", type=click.Choice(PIPELINES),
              help="How loader and step overlap; by default as measured, which cannot tell 'staged'.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write what was found; - is standard output.")
@click.option("-m", "module", metavar="MODULE", help="Run a module instead of a script.")
@debug
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")
def stalls(
    batches: int,
    warmup: int | None,
    files: tuple[str, ...],
    number: int,
    pipeline: Pipeline | None,
    json_file: str | None,
    module: str | None,
    program: tuple[str, ...],
) -> int:
    """Run a PyTorch script until it is known where its loop waits for data.

    Nothing in the script changes: its DataLoader hands out batches in runs with data at hand, in memory and on
    disk, and the script is ended when they are over. Files are dropped from the page cache for the cold runs,
    which needs no root. A loop over something else is measured by loosestep.data.stalls.watch, in the script.
    """
    if module is None and not program:
        raise click.UsageError("what is to run? Give a SCRIPT, or -m MODULE")
    if module is None and not Path(program[0]).is_file():
        raise click.UsageError(f"there is no script {program[0]}")
    if json_file not in (None, "-") and not Path(str(json_file)).parent.is_dir():
        raise click.UsageError(f"cannot write {json_file}: there is no folder {Path(str(json_file)).parent}")
    if importlib.util.find_spec("torch") is None:
        raise click.UsageError("this Python has no torch; loosestep.data.stalls.watch measures any other loop")
    measured_loader = importlib.import_module("loosestep.torch.data.measured_loader")
    options = {"batches": batches, "warmup": warmup, "files": files, "pipeline": pipeline}
    loaders: MeasuredLoader = measured_loader.MeasuredLoader(number, options)
    with loaders.installed():
        try:
            run(module, program)
        except measured_loader.Measured:
            pass
        except Exception:
            traceback.print_exc()  # the script's own
            return 1
        except SystemExit as ended:
            raise click.ClickException(f"{too_early(loaders)} (it exited with {ended.code!r})") from ended
        else:
            raise click.ClickException(too_early(loaders))
    show(loaders, json_file)
    return 0


def run(module: str | None, program: Sequence[str]) -> None:
    """Run the script as Python would."""
    if module is not None:
        with arguments(["-m", *program], ""):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        with arguments(program, str(Path(program[0]).resolve().parent)):
            runpy.run_path(program[0], run_name="__main__")


@contextmanager
def arguments(given: Sequence[str], folder: str) -> Iterator[None]:
    """Let `sys.argv`, and the folder in which modules are looked for first, be the script's."""
    kept, sys.argv = sys.argv, list(given)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv = kept
        sys.path.remove(folder)


def too_early(loaders: MeasuredLoader) -> str:
    """Return why there is nothing to report when the script has ended."""
    if loaders.watched is None:
        count = len(loaders.seen)
        wanted = "no DataLoader" if not count else f"only {count} DataLoaders, and --loader is {loaders.number}"
        return f"the script has ended and iterated {wanted}"
    return (
        f"the script left its loop and ended in {loaders.watched.during}: give fewer --batches or --warmup, or "
        "more epochs to the script"
    )


def show(loaders: MeasuredLoader, json_file: str | None) -> None:
    """Print and write what was found."""
    assert loaders.watched is not None
    report = loaders.watched.report
    text = f"{report}"
    if report.files:
        text += f"\n\nDropped from the page cache for the cold runs: {report.files} files, {report.bytes:,} bytes."
    click.echo(text, err=json_file == "-")
    if json_file == "-":
        click.echo(report.json(), nl=False)
    elif json_file is not None:
        outputs.write_json(json_file, report.as_dict())
