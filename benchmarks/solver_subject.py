"""Trained models, their data and their task, as the benchmark of solvers needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from numpy.typing import NDArray

from benchmarks.local_prior import LocalPrior
from benchmarks.random_walk import train_walk_prior
from common.data import Task, load_task
from common.rpc.clients import PriorClient
from common.store import LatentTable, MissingArtifactError, Store, open_latents
from common.training import configure_torch
from ldcq.config import Config, SamplingConfig
from ldcq.policies.base import LatentPlanPolicy, PolicySettings, SampledPolicy
from ldcq.prior import Sampler
from services.actor.models import Models, models_of_critic
from services.prior.model import ServedPrior, load_prior

Array = NDArray[Any]

MAX_ROWS = 2**18
"""Latents that one call may ask for, far beyond what is measured."""


@dataclass(frozen=True)
class Setting:
    """A solver and its number of steps."""

    solver: str
    steps: int


@dataclass(frozen=True)
class Subject:
    """What is measured: trained models, their data and their task."""

    config: Config
    table: LatentTable
    task: Task
    models: Models
    prior: ServedPrior
    walk: Sampler

    def policy(self, setting: Setting, candidates: int) -> LatentPlanPolicy:
        """The configured policy with another solver and another n."""
        actor = self.config.actor
        settings = PolicySettings(
            candidates=candidates,
            execute_steps=actor.execute_steps or self.models.decoder.dimensions.horizon,
            sampling=self.options(setting),
            sample_actions=actor.sample_actions,
            max_rows=MAX_ROWS,
        )
        client = cast(PriorClient, LocalPrior(self.prior))
        return SampledPolicy("ldcq", self.models, client, settings)

    def options(self, setting: Setting) -> SamplingConfig:
        """The actor's sampling options with another solver, and no extra steps."""
        update = {"solver": setting.solver, "steps": setting.steps, "extra_steps": 0}
        return self.config.actor.sampling.model_copy(update=update)

    def draw(self, setting: Setting, states: Array, candidates: int, seed: int) -> Array:
        """Raw latents, (N, n, Z)."""
        reply = LocalPrior(self.prior).sample_async(
            states, candidates, seed=seed, options=self.options(setting)
        )
        return reply.result().latents


def load_subject(config: Config, store: Store, walk_updates: int) -> Subject:
    """The models of the current critic's lineage, and a prior trained on the random walk.

    Args:
        config: The run's.
        store: Holds them.
        walk_updates: Training steps of the random walk's prior.

    Raises:
        ValueError: The prior is not a diffusion model.
        StoreError: A model is missing.
    """
    device = configure_torch(config)
    version = store.current("critic")
    if version is None:
        raise MissingArtifactError(f"no critic in {store.folder('critic')}; made by `ldcq run`")
    models = models_of_critic(store, store.load("critic", version), device)
    prior = load_prior(store.load("prior", models.prior_version), device)
    if not prior.description.training_steps:
        raise ValueError(f"the prior is {prior.implementation!r}, expected one with solvers")
    return Subject(
        config=config,
        table=open_latents(store, vae_version=models.vae_version),
        task=load_task(config, store.root),
        models=models,
        prior=prior,
        walk=train_walk_prior(config, walk_updates),
    )
