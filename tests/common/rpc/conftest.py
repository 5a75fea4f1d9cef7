"""Servers that end with the test, in this process and in others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.numpy_prior import NumpyPrior, serve

Start = Callable[..., str]
Spawn = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Serves a `NumpyPrior` in this process: `start(prior, **server_options) -> address`."""
    with ExitStack() as stack:

        def start_prior(prior: NumpyPrior, **options: Any) -> str:
            server, address = serve(prior, **options)
            stack.callback(server.drain, 0)
            return address

        yield start_prior


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Serves a correct prior in a process of its own: `spawn(*arguments) -> process, address`."""
    processes: list[subprocess.Popen[str]] = []

    def spawn_prior(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tests.numpy_prior", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield spawn_prior
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
