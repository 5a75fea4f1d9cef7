"""Trained models, their data and their task, as the benchmark of solvers needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from benchmarks.walk_prior import train_walk_prior
from common.data import Task, load_task
from common.store import MissingArtifactError, Store, open_latents
from common.training import configure_torch
from ldcq.config import Config, SamplingConfig
from ldcq.data.latents import LatentTable
from ldcq.latent_prior import Draw
from ldcq.policies.base import Execution, LatentPlanPolicy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.prior import Sampler
from services.actor.models import Models, models_of_critic
from services.prior.model import ServedPrior, load_prior

Array = NDArray[Any]


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
        actor, models = self.config.actor, self.models
        assert models.critic is not None
        execution = Execution(
            actor.execute_steps or models.decoder.dimensions.horizon, actor.sample_actions
        )
        return LdcqPolicy(
            models.decoder,
            self.prior.sampler,
            models.critic,
            candidates,
            self.options(setting),
            execution,
        )

    def options(self, setting: Setting) -> SamplingConfig:
        """The actor's sampling options with another solver, and no extra steps."""
        update = {"solver": setting.solver, "steps": setting.steps, "extra_steps": 0}
        return self.config.actor.sampling.model_copy(update=update)

    def draw(self, setting: Setting, states: Array, candidates: int, seed: int) -> Array:
        """Raw latents, (N, n, Z)."""
        draw = Draw(states, candidates, self.options(setting), seed)
        return self.prior.sampler.sample(draw).latents


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
        raise ValueError(
            f"the prior is {prior.description.implementation!r}, expected one with solvers"
        )
    return Subject(
        config=config,
        table=open_latents(store, vae_version=models.vae_version),
        task=load_task(config, store.root),
        models=models,
        prior=prior,
        walk=train_walk_prior(config, walk_updates),
    )
