"""A prior to measure, and a server of it in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from common.models import parts_of
from common.rpc.clients import PriorClient
from common.store import Store
from ldcq.config import Config, dump, load, override
from ldcq.nn.model import Dimensions
from ldcq.registry import find_prior

STATE_DIM = 29
"""AntMaze's."""
START_SECONDS = 120.0


def prior_of(
    store: str | None, folder: Path, changes: Mapping[str, object]
) -> tuple[Config, Store]:
    """What a prior server is measured with, on the CPU unless `changes` say otherwise.

    Args:
        store: A run's folder, whose prior is served; None: the paper's network with random weights,
            which cost what trained ones do, published in a store in `folder`.
        folder: For that store.
        changes: Of the configuration.

    Returns:
        The configuration of the run, or the paper's, and the store.
    """
    base = load("paper" if store is None else Path(store) / "run" / "config.yaml")
    config = override(base, {"device": "cpu", **changes})
    if store is not None:
        return config, Store(store)
    torch.manual_seed(0)
    dimensions = Dimensions(state=STATE_DIM, latent=config.vae.latent_dim)
    prior = find_prior(config.prior.implementation)(dimensions, config.prior)
    origin = {"implementation": config.prior.implementation, "parents": {"vae": "random"}}
    made = Store(folder / "store")
    made.publish(*parts_of(prior, **origin), dump(config))
    return config, made


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
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(config.threads)},
        start_new_session=True,  # as the launcher does; an interrupt reaches the benchmark only
    ) as process:
        stop = threading.Event()
        timer = threading.Timer(START_SECONDS, stop.set)
        timer.start()
        try:
            with PriorClient(address) as client:
                client.wait_ready(lambda _: None, stop, poll=0.1)
            timer.cancel()
            yield process.pid
        finally:
            timer.cancel()
            process.terminate()
