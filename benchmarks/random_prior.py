"""A prior to measure, and a server of it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from common.models import parts_of
from common.rpc.clients import PriorClient
from common.store import Store
from ldcq.config import Config, dump
from ldcq.nn.model import Dimensions
from ldcq.registry import find_prior

STATE_DIM = 29
"""AntMaze's."""
START_SECONDS = 120.0


def publish_random(store: Store, config: Config, state_dim: int = STATE_DIM) -> str:
    """Publishes the prior of a configuration with random weights, which cost what trained ones do.

    Returns:
        Its version.
    """
    torch.manual_seed(0)
    dimensions = Dimensions(state=state_dim, latent=config.vae.latent_dim)
    prior = find_prior(config.prior.implementation)(dimensions, config.prior)
    origin = {"implementation": config.prior.implementation, "parents": {"vae": "random"}}
    return store.publish(*parts_of(prior, **origin), dump(config))


@contextmanager
def served(folder: Path, store: Path, config: Config, address: str) -> Iterator[int]:
    """A prior server with `config.threads` threads, that answers, and ends with the block.

    Args:
        folder: For its configuration.
        store: Whose prior it serves.
        config: Its configuration.
        address: Where it listens.

    Yields:
        Its process id.
    """
    path = folder / "config.yaml"
    path.write_text(dump(config))
    command = [sys.executable, "-m", "services.prior", "serve", "--end-with-input"]
    command += ["--config", str(path), "--store", str(store), "--listen", address]
    environment = {**os.environ, "OMP_NUM_THREADS": str(config.threads)}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # as the launcher does; an interrupt reaches the benchmark only
    ) as process:
        try:
            _wait_ready(address)
            yield process.pid
        finally:
            process.terminate()


def _wait_ready(address: str) -> None:
    stop = threading.Event()
    timer = threading.Timer(START_SECONDS, stop.set)
    timer.start()
    try:
        with PriorClient(address) as client:
            client.wait_ready(lambda _: None, stop, poll=0.1)
    finally:
        timer.cancel()
