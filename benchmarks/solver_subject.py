"""What the benchmark of solvers measures: trained models, their data and their task, and a prior
trained on supplement D's random walk, whose actions are in [-1, -0.8] and [0.8, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.data import Task, load_task
from common.data.random_walk import GAP, draw_actions
from common.store import MissingArtifactError, Store, open_latents
from common.training import configure_torch
from ldcq.config import Config, SamplingConfig, override
from ldcq.data.latents import LatentTable
from ldcq.latent_prior import Draw
from ldcq.policies.base import LatentPlanPolicy
from ldcq.policies.by_name import make_policy
from ldcq.prior import Sampler
from ldcq.prior_learner import PriorLearner
from services.actor.models import Models, followed_artifacts, method_models, model_loader
from services.prior.model import ServedPrior, load_prior

BATCH = 256
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
        sampling, models = self.options(setting).model_dump(), self.models
        changes = {"actor.candidates": candidates, "actor.sampling": sampling}
        return make_policy(
            "ldcq",
            override(self.config, changes),
            models.decoder,
            self.prior.sampler,
            models.critic,
            models.world_model,
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
    """The models of the current critic's lineage, and a prior trained on the random walk for
    `walk_updates` steps.

    Raises:
        ValueError: The prior is not a diffusion model.
        StoreError: A model is missing.
    """
    device = configure_torch(config)
    config = override(config, {"evaluation.methods.ldcq": {"policy": "ldcq"}})
    parts = []
    for kind, variant in followed_artifacts(config, "ldcq"):
        version = store.current(kind, variant)
        if version is None:
            raise MissingArtifactError(f"no {kind} in {store.folder(kind)}; made by `ldcq run`")
        parts.append(model_loader(store, kind, device)(store.load(kind, version)))
    models = method_models(config, "ldcq", parts)
    prior = load_prior(store.load("prior", models.prior_version), device)
    if not prior.description.training_steps:
        raise ValueError(
            f"the prior is {prior.description.implementation!r}, expected one with solvers"
        )
    table, task = open_latents(store, vae_version=models.vae_version), load_task(config, store.root)
    return Subject(config, table, task, models, prior, train_walk_prior(config, walk_updates))


def train_walk_prior(config: Config, updates: int, windows: int = 16384) -> Sampler:
    """Trains the configured prior on the walk, an action being its own latent (H = 1, Z = 1).

    Args:
        config: Gives the prior's network, schedule and T.
        updates: Gradient steps; some of one-cycle training in batches of 256.
        windows: Steps of the walk to learn from.
    """
    training = {
        "batch_size": BATCH,
        "epochs": max(1, round(updates * BATCH / windows)),
        "learning_rate": 2e-3,
        "schedule": "one_cycle",
    }
    changed = override(config, {f"prior.{key}": value for key, value in training.items()})
    learner = PriorLearner(changed, _walk(windows, config.seed), torch.device("cpu"))
    for step in range(learner.total):
        learner.update(step)
    return learner.published.eval().requires_grad_(False).sampler()


def walk_coverage(
    sampler: Sampler, options: SamplingConfig, states: int = 64, per_state: int = 128
) -> tuple[float, float]:
    """How much of what is sampled no data could be, and how evenly both modes are met, at `states`
    positions from one end to the other.

    Returns:
        Share of samples shorter than `GAP`, the data's shortest step less a little, and share of
        steps to the right, 0.5 in the data.
    """
    positions = torch.linspace(-10, 10, states)[:, None].numpy()
    actions = sampler.sample(Draw(positions, per_state, options, seed=0)).latents
    return float((np.abs(actions) < GAP).mean()), float((actions > 0).mean())


def _walk(windows: int, seed: int) -> LatentTable:
    """Steps at random positions as a table of exact latents."""
    random = np.random.default_rng(seed)
    state = random.uniform(-10, 10, (windows, 1)).astype(np.float32)
    action = draw_actions(random, windows)
    nothing: NDArray[np.float32] = np.zeros(windows, dtype=np.float32)
    return LatentTable(
        state=state,
        latent_mean=action,
        latent_std=np.zeros_like(action),
        reward=nothing,
        discount=nothing,
        next_state=state + action,
        episode=np.arange(windows),
        step=np.zeros(windows, dtype=np.int64),
        validation=np.zeros(windows, dtype=bool),
    )
