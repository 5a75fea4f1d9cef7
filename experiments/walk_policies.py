"""The random walk's trained models in this process: what their priors decode to, and other ways to
act with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.data import Task, load_task
from common.data.random_walk_env import LIMIT
from common.models import model_of
from common.store import Artifact, Store
from ldcq.config import EvaluationConfig, SamplingConfig, load
from ldcq.critic.critic import Critic
from ldcq.latent_prior import Draw, LatentPrior
from ldcq.vae.model import Vae
from services.actor.rollout import rollout
from services.actor.scores import episode_returns
from services.prior.model import load_prior

STATES, PER_STATE = 101, 100
"""Positions from one end to the other, and samples decoded at each."""
SPREAD = 256
"""Samples that say where a prior's mean and deviation are."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Decoding:
    """A way to act."""

    method: str  # whose models
    label: str
    sample_actions: bool = False  # draw actions from the decoder instead of taking its mode
    clip: float | None = None
    """Deviations of the prior, at a state, that latents may be away from its mean."""


@dataclass(frozen=True)
class WalkModels:
    """The models of one training seed; critics and priors by method."""

    decoder: Vae
    critics: Mapping[str, Critic]
    priors: Mapping[str, LatentPrior]
    sampling: SamplingConfig
    task: Task

    def draw(self, method: str, states: Array, count: int, seed: int) -> Array:
        """Raw latents (N, count, Z) of a method's prior, for states (N, 1)."""
        return self.priors[method].sample(Draw(states, count, self.sampling, seed)).latents

    def actions(self, method: str) -> NDArray[np.float32]:
        """Modes of the decoder for samples of a method's prior, shape (STATES, PER_STATE)."""
        positions = np.linspace(-LIMIT, LIMIT, STATES, dtype=np.float32)[:, None]
        latents = torch.from_numpy(self.draw(method, positions, PER_STATE, seed=0)).flatten(0, 1)
        states = torch.from_numpy(positions.repeat(PER_STATE, axis=0))
        return self.decoder.act(states, latents).numpy().reshape(STATES, PER_STATE)

    def returns(
        self, decoding: Decoding, candidates: int, evaluation: EvaluationConfig
    ) -> NDArray[np.float64]:
        """The returns of another way to act, from the evaluation's own starts, (E,)."""
        random = np.random.default_rng(evaluation.seed)
        episodes = rollout(
            self.task.make_env,
            WalkPolicy(self, decoding, candidates, random),
            episodes=evaluation.episodes,
            environments=evaluation.episodes,
            seed=evaluation.seed,
            max_episode_steps=self.task.max_episode_steps,
        )
        return episode_returns([episode.rewards for episode in episodes])


@dataclass(frozen=True)
class WalkPolicy:
    """Chooses the best of n latents at every step, as H = 1 has it, and decodes it."""

    models: WalkModels
    decoding: Decoding
    candidates: int  # n
    random: np.random.Generator  # source of all that is drawn

    def act(self, observations: Array, goals: Array | None = None) -> Array:
        """Actions (E, 1) for states (E, 1)."""
        del goals
        seed = int(self.random.integers(2**31))
        rows = torch.tensor(observations)
        latents = torch.from_numpy(self._latents(observations, seed))
        with torch.no_grad():
            best = self.models.critics[self.decoding.method].score(rows, latents).argmax(dim=1)
        generator = torch.Generator().manual_seed(seed) if self.decoding.sample_actions else None
        chosen = latents[torch.arange(len(rows)), best]
        return self.models.decoder.act(rows, chosen, generator).numpy()

    def reset(self, mask: Array | None = None) -> None:
        """Nothing is remembered."""

    def _latents(self, states: Array, seed: int) -> Array:
        """Candidates (E, n, Z); with a bound near the prior's mean, as BCQ's public code has it."""
        method, clip, count = self.decoding.method, self.decoding.clip, self.candidates
        if clip is None:
            return self.models.draw(method, states, count, seed)
        drawn = self.models.draw(method, states, max(count, SPREAD), seed)
        mean, reach = drawn.mean(1, keepdims=True), clip * drawn.std(1, keepdims=True)
        near: Array = np.clip(drawn[:, :count], mean - reach, mean + reach)
        return near


def walk_models(store: Store, evaluation: str, variants: Mapping[str, str]) -> WalkModels:
    """What an evaluation was played with: methods and their pipelines' variants.

    Raises:
        StoreError: Something is not there any more.
    """
    cpu = torch.device("cpu")
    parents = store.meta("evaluation", evaluation).parents
    config = load(store.folder("evaluation") / evaluation / "config.yaml")
    torch.set_num_threads(config.threads)

    def part(kind: str, variant: str = config.variant) -> Artifact:
        return store.load(kind, parents[kind if variant == config.variant else f"{kind}.{variant}"])

    return WalkModels(
        model_of(part("vae"), Vae),
        {method: model_of(part("critic", by), Critic) for method, by in variants.items()},
        {method: load_prior(part("prior", by), cpu).sampler for method, by in variants.items()},
        config.actor.sampling,
        load_task(config, store.root),
    )
