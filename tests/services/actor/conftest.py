"""A small pipeline, trained for a moment by the real stages, and its prior services."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

import services.prior.train
import services.qlearner.train
import services.vae.train
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.config import Config
from services.prior.server import PriorProcess

CONFIG = {
    "name": "small",
    "device": "cpu",
    "horizon": 8,
    "data": {
        "dataset": "ldcq/test-umaze-v0",
        "observation_keys": ["observation"],
        "generate": {"maze": "umaze", "steps": 4000},
    },
    "training": {"log_every": 5, "validate_every": 10},
    "vae": {
        "encoder": "mlp",
        "latent_dim": 4,
        "hidden": 16,
        "decoder_hidden": 16,
        "learning_rate": 1e-3,
        "epochs": 1,
    },
    "prior": {
        "options": {
            "diffusion": {
                "steps": 10,
                "schedule": "cosine",
                "blocks": [16, 16],
                "condition_dim": 8,
                "time_dim": 8,
                "clip_sample": 4.0,
            },
            "gaussian": {"hidden": [16]},
        },
        "batch_size": 256,
        "epochs": 2,
        "sampling": {"solver": "ddpm", "steps": 5, "extra_steps": 0},
    },
    "critic": {
        "hidden": [16, 16],
        "updates": 20,
        "batch_size": 32,
        "candidates": 4,
        "calls_in_flight": 2,
    },
    "actor": {"candidates": 6, "execute_steps": 4},
    "evaluation": {
        "methods": {
            "ldcq": {"policy": "ldcq"},
            "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
            "prior": {"policy": "prior"},
            "behaviour": {"policy": "behaviour"},
        },
        "episodes": 3,
        "environments": 2,
    },
    "variants": {"bcq_h": {"prior.implementation": "gaussian"}},
}


@dataclass
class Pipeline:
    """A store with all models of both variants, and the priors that serve them."""

    config: Config
    store: Store
    targets: dict[str, str]

    def context(
        self,
        config: Config | None = None,
        store: Store | None = None,
        variant: str = "main",
        stop: threading.Event | None = None,
    ) -> StageContext:
        return StageContext(
            base=config or self.config,
            store=store or self.store,
            progress=Progress("evaluation"),
            variant=variant,
            stop=stop or threading.Event(),
            prior_targets=self.targets,
        )


class Replica:
    """A real prior service on a port of its own."""

    def __init__(self, config: Config, store: Store, variant: str = "main") -> None:
        self.server = Server(linger=0, grace=0.5)
        settings = ServiceSettings(config, store, variant=variant)
        self.process = PriorProcess(self.server, settings, poll=0.05)
        self.address = self.server.start()
        self.process.start()

    def stop(self) -> None:
        self.server.drain()
        self.process.stop()


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("actor") / "store"
    with trained(Config.model_validate(CONFIG), Store(root)) as made:
        yield made


@contextmanager
def trained(config: Config, store: Store) -> Iterator[Pipeline]:
    """A pipeline whose stages have run, with its priors served; no world model."""
    replicas = {name: Replica(config, store, name) for name in ("main", "bcq_h")}
    targets = {name: replica.address for name, replica in replicas.items()}
    made = Pipeline(config, store, targets)
    services.vae.train.run(made.context())
    for variant in replicas:
        services.prior.train.run(made.context(variant=variant))
        services.qlearner.train.run(made.context(variant=variant))
    try:
        yield made
    finally:
        for replica in replicas.values():
            replica.stop()
