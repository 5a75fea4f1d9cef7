"""One small run from nothing to scores, for the tests that look at what it leaves.

They are in the group `pipeline`, so that it is made once; the group `runs` makes runs of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command import REPORT, TINY, ldcq, run_json

TESTS = Path(__file__).parent

# A worker a core, and a thread a worker and its processes: more of them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file share a worker, and so its fixtures; a mark puts files together.

    The groups of marks are the longest and come first, so that no worker is left with one alone.
    """
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(TESTS).as_posix()))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A store after `ldcq run --json`, and what that printed."""
    store = tmp_path_factory.mktemp("pipeline") / "store"
    return store, run_json(TINY, store, *REPORT)


@pytest.fixture(scope="session")
def exported(finished: tuple[Path, dict[str, Any]]) -> Path:
    """The folder of `ldcq export`, called `policy`, beside the store."""
    folder = finished[0].parent / "policy"
    ldcq("export", finished[0], folder, "--method", "ldcq")
    return folder


@pytest.fixture(scope="session")
def served(finished: tuple[Path, dict[str, Any]]) -> Iterator[str]:
    """The address of an actor over the run's models."""
    with ExitStack() as processes:
        prior = processes.enter_context(_serving("prior", finished[0]))
        options = ("--prior", prior, "--prior", f"bcq_h={prior}")
        yield processes.enter_context(_serving("actor", finished[0], *options))


@contextmanager
def _serving(service: str, store: Path, *options: str) -> Iterator[str]:
    """A server started as its users do; its address."""
    command = [sys.executable, "-m", "cli.main", "serve", service, "--store", str(store), *options]
    command += ["--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
