"""A small world: two modes of latents on either side, chosen by chance, over states that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from common.models import parts_of
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Meta, Store, stage_spec
from ldcq.config import Config
from ldcq.data.latents import LatentTable
from ldcq.nn.model import Dimensions
from ldcq.prior import Prior, Statistics
from ldcq.registry import find_prior
from services.prior.server import PriorProcess
from tests.following import wait_loaded
from tests.latent_tables import publish_table

STATE, LATENT = 3, 2

OPTIONS: dict[str, dict[str, object]] = {
    "diffusion": {
        "steps": 20,
        "schedule": "cosine",
        "blocks": [32, 16, 32],
        "condition_dim": 16,
        "time_dim": 16,
    },
    "gaussian": {"hidden": [64, 64]},
}

SMALL_PRIOR: dict[str, object] = {
    "options": OPTIONS,
    "learning_rate": 2e-3,
    "batch_size": 128,
    "epochs": 2,
    "sampling": {"solver": "ddpm", "steps": 5, "guidance": 1.0, "extra_steps": 0},
}


def small_config(
    implementation: str = "diffusion",
    options: Mapping[str, object] = MappingProxyType({}),
    **prior: object,
) -> Config:
    """`options` are changes to those of the implementation."""
    own = {**OPTIONS.get(implementation, {}), **options}
    section = {**SMALL_PRIOR, "implementation": implementation, **prior}
    section["options"] = {**OPTIONS, implementation: own}
    return Config.model_validate({"threads": 1, "device": "cpu", "prior": section})


def goal_config(
    implementation: str = "diffusion", indices: Sequence[int] = (2, 0), **prior: Any
) -> Config:
    """Goals are two entries of a state, in another order."""
    config = small_config(implementation, goal_conditioned=False, **prior).model_dump()
    config["prior"]["goal_conditioned"] = True
    config["data"]["goal_indices"] = list(indices)
    config["evaluation"]["methods"] = {}
    return Config.model_validate(config)


def two_modes(rows: int, seed: int = 0) -> LatentTable:
    """Latents at (2 s_0 + 3, 5) and (2 s_0 - 3, 5), narrow, of which half are q's own spread."""
    random = np.random.default_rng(seed)
    state = random.normal(4.0, 2.0, (rows, STATE)).astype(np.float32)
    side = random.choice([-3.0, 3.0], rows)
    mean = np.stack([2 * state[:, 0] + side, np.full(rows, 5.0)], axis=1)
    mean = (mean + random.normal(0, 0.1, mean.shape)).astype(np.float32)
    return LatentTable(
        state=state,
        latent_mean=mean,
        latent_std=np.full_like(mean, 0.1),
        reward=np.zeros(rows, np.float32),
        discount=np.ones(rows, np.float32),
        next_state=state,
        episode=np.arange(rows),
        step=np.zeros(rows, np.int64),
        validation=np.arange(rows) % 10 == 0,
    )


def some_statistics() -> Statistics:
    return Statistics(
        state_mean=np.array([1.0, -2.0, 0.0], np.float32),
        state_std=np.array([2.0, 0.5, 1.0], np.float32),
        latent_mean=np.array([10.0, -3.0], np.float32),
        latent_std=np.array([4.0, 0.2], np.float32),
    )


def some_prior(config: Config, seed: int = 0) -> Prior:
    """Random weights, biases and norms included, so that no term of a layer is trivial."""
    torch.manual_seed(seed)
    goals = config.data.goal_indices if config.prior.goal_conditioned else ()
    dimensions = Dimensions(state=STATE, latent=LATENT, goal=len(goals))
    prior = find_prior(config.prior.implementation)(dimensions, config.prior)
    prior.fit_normalisers(replace(some_statistics(), goal_indices=goals))
    with torch.no_grad():
        for name, parameter in prior.named_parameters():
            if name.endswith("bias") or "norm" in name:
                nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return prior


def publish(store: Store, config: Config, seed: int = 0, variant: str = "main") -> str:
    """An artifact as the stage makes it, without training."""
    origin = {
        "implementation": config.prior.implementation,
        "parents": {"vae": "v1", "latents": "l1"},
    }
    return store.publish(*parts_of(some_prior(config, seed), **origin), "", variant)


def publish_vae(store: Store, config: Config, dataset: str = "d1") -> str:
    parents, dimensions = {"dataset": dataset}, {"state": STATE, "latent": LATENT}
    spec = stage_spec(config, "vae", parents)
    meta = Meta(kind="vae", spec=spec, parents=parents, dimensions=dimensions)
    return store.publish(meta, {"weight": np.zeros(2, np.float32)}, "")


def publish_latents(store: Store, config: Config, vae: str, rows: int = 600) -> str:
    parents = {"vae": vae, "dataset": "d1"}
    spec = stage_spec(config, "latents", parents)
    dimensions = {"state": STATE, "action": 1, "latent": LATENT, "horizon": 4}
    meta = Meta(kind="latents", spec=spec, parents=parents, dimensions=dimensions)
    return publish_table(store, meta, two_modes(rows))


class Replica:
    """A prior service of its own, on a port of its own, over a store."""

    def __init__(self, store: Store, config: Config, queue_rows: int = 1 << 20) -> None:
        self.server = Server(linger=0, grace=0.5)
        settings = ServiceSettings(config, store)
        self.process = PriorProcess(self.server, settings, queue_rows=queue_rows, poll=0.02)
        self.address = self.server.start()
        self.process.start()

    def ready(self, version: str = "") -> Replica:
        wait_loaded(self.process.follower, 20, version)
        return self

    def stop(self) -> None:
        self.server.drain()
        self.process.stop()
