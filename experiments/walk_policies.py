"""The random walk's trained models in this process: what their priors decode to, and other ways to
act with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.local_prior import LocalPrior
from common.data import Task, load_task
from common.data.random_walk_env import LIMIT
from common.models import model_of
from common.rpc.clients import Samples
from common.store import Store
from ldcq.config import EvaluationConfig, SamplingConfig, load
from ldcq.critic.critic import Critic
from ldcq.vae.model import Vae
from services.actor.rollout import rollout
from services.actor.scores import episode_returns
from services.prior.model import ServedPrior, load_prior

STATES, PER_STATE = 101, 100
"""Positions from one end to the other, and samples decoded at each."""
SPREAD = 256
"""Samples that say where a prior's mean and deviation are."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Decoding:
    """A way to act.

    Attributes:
        method: Whose models.
        label: What to call it.
        sample_actions: Draw actions from the decoder instead of taking its mode.
        clip: Deviations of the prior, at a state, that latents may be away from its mean; None: no
            bound.
    """

    method: str
    label: str
    sample_actions: bool = False
    clip: float | None = None


class ClippedPrior(LocalPrior):
    """A prior whose latents stay near its mean, as BCQ's public code has it.

    Args:
        prior: The model.
        bound: Deviations they may be away, dimension by dimension.
    """

    def __init__(self, prior: ServedPrior, bound: float) -> None:
        super().__init__(prior)
        self._bound = bound

    def sample_async(
        self, states: NDArray[np.float32], candidates: int, **settings: Any
    ) -> Future[Samples]:
        """As `LocalPrior.sample_async`."""
        drawn = super().sample_async(states, max(candidates, SPREAD), **settings).result()
        mean = drawn.latents.mean(axis=1, keepdims=True)
        reach = self._bound * drawn.latents.std(axis=1, keepdims=True)
        near = np.clip(drawn.latents[:, :candidates], mean - reach, mean + reach)
        reply: Future[Samples] = Future()
        seconds = drawn.compute_seconds
        reply.set_result(Samples(near, drawn.model_version, 0.0, seconds))
        return reply


@dataclass(frozen=True)
class Agent:
    """Chooses the best of n latents at every step, as H = 1 has it, and decodes it.

    Attributes:
        decoder: pi(a | s, z).
        critic: Chooses.
        prior: Draws the candidates.
        sampling: How.
        candidates: n.
        sample_actions: Draw actions from the decoder instead of taking its mode.
        random: Source of all that is drawn.
    """

    decoder: Vae
    critic: Critic
    prior: LocalPrior
    sampling: SamplingConfig
    candidates: int
    sample_actions: bool
    random: np.random.Generator

    def __call__(self, states: Array, goals: Array | None, restart: Array) -> Array:
        """Actions (E, 1) for states (E, 1)."""
        del goals, restart
        seed = int(self.random.integers(2**31))
        reply = self.prior.sample_async(states, self.candidates, seed=seed, options=self.sampling)
        rows, latents = torch.tensor(states), torch.from_numpy(reply.result().latents)
        with torch.no_grad():
            best = self.critic.score(rows, latents).argmax(dim=1)
        generator = torch.Generator().manual_seed(seed) if self.sample_actions else None
        chosen = latents[torch.arange(len(rows)), best]
        return self.decoder.act(rows, chosen, generator).numpy()


@dataclass(frozen=True)
class WalkModels:
    """The models of one training seed.

    Attributes:
        decoder: Both methods'.
        critics: Of each method.
        sampling: How the priors are sampled.
        task: The walk.
    """

    decoder: Vae
    critics: Mapping[str, Critic]
    priors: Mapping[str, ServedPrior]
    sampling: SamplingConfig
    task: Task

    def actions(self, method: str) -> NDArray[np.float32]:
        """Modes of the decoder for samples of a method's prior, shape (STATES, PER_STATE)."""
        positions = np.linspace(-LIMIT, LIMIT, STATES, dtype=np.float32)[:, None]
        reply = LocalPrior(self.priors[method]).sample_async(
            positions, PER_STATE, seed=0, options=self._options(method)
        )
        latents = torch.from_numpy(reply.result().latents).flatten(0, 1)
        states = torch.from_numpy(positions.repeat(PER_STATE, axis=0))
        decoded = self.decoder.act(states, latents)
        return decoded.numpy().reshape(STATES, PER_STATE)

    def mean_return(
        self, decoding: Decoding, candidates: int, evaluation: EvaluationConfig
    ) -> float:
        """Mean return of another way to act, from the evaluation's own starts."""
        prior = self.priors[decoding.method]
        client = LocalPrior(prior) if decoding.clip is None else ClippedPrior(prior, decoding.clip)
        agent = Agent(
            self.decoder,
            self.critics[decoding.method],
            client,
            self._options(decoding.method),
            candidates,
            decoding.sample_actions,
            np.random.default_rng(evaluation.seed),
        )
        episodes = rollout(
            self.task.make_env,
            agent,
            episodes=evaluation.episodes,
            environments=evaluation.episodes,
            seed=evaluation.seed,
            max_episode_steps=self.task.max_episode_steps,
        )
        return float(episode_returns([episode.rewards for episode in episodes]).mean())

    def _options(self, method: str) -> SamplingConfig:
        """A prior without denoising steps has nothing to choose."""
        denoises = self.priors[method].description.training_steps > 0
        return self.sampling if denoises else SamplingConfig()


def walk_models(store: Store, evaluation: str, variants: Mapping[str, str]) -> WalkModels:
    """What an evaluation was played with.

    Args:
        store: Where it is.
        evaluation: Its version.
        variants: Methods and the pipelines they were played with.

    Raises:
        StoreError: Something is not there any more.
    """
    cpu = torch.device("cpu")
    parents = store.meta("evaluation", evaluation).parents
    config = load(store.folder("evaluation") / evaluation / "config.yaml")
    torch.set_num_threads(config.threads)
    critics, priors = {}, {}
    for method, variant in variants.items():
        suffix = "" if variant == config.variant else f".{variant}"
        critics[method] = model_of(store.load("critic", parents[f"critic{suffix}"]), Critic)
        priors[method] = load_prior(store.load("prior", parents[f"prior{suffix}"]), cpu)
    decoder = model_of(store.load("vae", parents["vae"]), Vae)
    task = load_task(config, store.root)
    return WalkModels(decoder, critics, priors, config.actor.sampling, task)
