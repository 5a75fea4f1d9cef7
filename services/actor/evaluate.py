"""Plays the configured methods, scores them and publishes what came out (section 5.4)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.data import Task, behaviour_episodes, load_episodes, load_task
from common.store import Meta, Store, owning_variant, stage_spec
from ldcq.config import Config, dump, resolve_variant
from ldcq.policies.base import StatefulPolicy
from ldcq.policy import Policy
from services.actor import metrics
from services.actor.environments import EnvironmentPool, worthwhile_processes
from services.actor.merging import merged
from services.actor.method_policy import MethodPolicy
from services.actor.models import Models
from services.actor.rollout import Episode, Observe, check_spaces, rollout
from services.actor.scores import first_reward_steps, score, successes

Row = dict[str, JsonValue]
OnStep = Callable[[str, int, int], None]
"""Told the method being played, the environment steps done of all methods, and how many there
are."""


class EpisodeDone(NamedTuple):
    """One more episode of `method` is finished, the one that makes `done` of all methods."""

    method: str
    done: int


def evaluation_parents(base: Config, store: Store, models: Mapping[str, Models]) -> dict[str, str]:
    """The lineage of an evaluation: the dataset and every model of the methods that have some.

    What a variant owns is named `kind.variant`, what it shares with the main pipeline `kind`.

    Raises:
        DataError: No method has models, and the dataset cannot be read.
    """
    parents: dict[str, str] = {}
    for method, used in models.items():
        variant = base.evaluation.methods[method].variant
        for kind, version in used.parents.items():
            owner = owning_variant(base, variant, kind)
            parents[kind if owner == base.variant else f"{kind}.{owner}"] = version
        learned = "vae" if used.vae_version else "bc"
        meta = store.meta(learned, used.parents[learned])
        parents |= {"dataset": meta.parents.get("dataset", "")}
    return parents or {
        "dataset": load_episodes(
            base.data, store.root, base.training.memory, base.frames
        ).fingerprint
    }


def prepare_evaluation(
    config: Config,
    store: Store,
    policies: Mapping[str, MethodPolicy],
    on_step: OnStep = lambda *_: None,
) -> Evaluation:
    """Loads the task, and the data's own episodes where a method asks for them; see `Evaluation`.

    Raises:
        DataError: Dataset or environment cannot be had.
        SpaceMismatchError: The environment's spaces are not those of the models.
    """
    task = load_task(config, store.root)
    behaviour: list[NDArray[np.float32]] = []
    if any(method.policy == "behaviour" for method in config.evaluation.methods.values()):
        memory, frames = config.training.memory, config.frames
        episodes = load_episodes(config.data.scored, store.root, memory, frames)
        behaviour = behaviour_episodes(episodes, task.max_episode_steps)
    return Evaluation(config, task, policies, behaviour, on_step)


class Evaluation:
    """One evaluation: `play` it to the end, then `rows` and `publish`.

    Attributes:
        total: Episodes of all methods.
        total_steps: Environment steps of all rollouts, if every episode lasts to the time limit.

    Args:
        base: The main pipeline's configuration; `evaluation` says what is played.
        task: The environment and how it is scored.
        policies: The policies of all methods but `behaviour`.
        behaviour: Rewards of the data's own episodes, shapes (T_i,); empty where no method asks
            for them.
        on_step: Called before every step, and while environments are made; what it raises ends the
            evaluation.

    Raises:
        SpaceMismatchError: The environment's spaces are not those of the models.
    """

    def __init__(
        self,
        base: Config,
        task: Task,
        policies: Mapping[str, MethodPolicy],
        behaviour: Sequence[NDArray[np.floating]] = (),
        on_step: OnStep = lambda *_: None,
    ) -> None:
        self.base, self.task = base, task
        self.policies, self._behaviour = policies, behaviour
        methods = base.evaluation.methods
        self._on_step, self._steps = on_step, dict.fromkeys(methods, 0)
        self.episodes: dict[str, list[Episode]] = {method: [] for method in methods}
        acting = sum(method.policy != "behaviour" for method in methods.values())
        rollouts, recorded = acting * base.evaluation.episodes, len(methods) - acting
        self.total = rollouts + recorded * len(behaviour)
        self.total_steps = rollouts * task.max_episode_steps
        self._environments = EnvironmentPool(self._check() if policies else 1)

    def play(self) -> Iterator[EpisodeDone]:
        """Plays all methods, two side by side: one steps its environments while the other one waits
        for its prior. The episodes are those of each method played alone. What samples most
        begins first, so that the others fit in beside it.

        Raises:
            RpcError: A prior service went away, or serves another model.
        """
        methods = sorted(self.base.evaluation.methods, key=self._paths, reverse=True)
        playing = {method: self._episodes(method) for method in methods}
        merging = merged(playing, at_once=2)
        with closing(self._environments), closing(merging):  # rollouts end first
            for done, (method, episode) in enumerate(merging, start=1):
                self.episodes[method].append(episode)
                metrics.RETURNS.labels(method).observe(float(episode.rewards.sum()))
                success = successes([episode.success], [episode.rewards], self.task.first_hit)
                if success is not None:
                    metrics.SUCCESSES.labels(method).observe(success[0])
                yield EpisodeDone(method, done)
        for finished in self.episodes.values():
            finished.sort(key=lambda episode: episode.index)

    def policy(self, method: str) -> Policy:
        """A method that acts, from the start of its first episode on."""
        return StatefulPolicy(self.policies[method].policy, self.base.evaluation.seed)

    def observe(self, method: str) -> Observe | None:
        """What makes states of the environment's observations for a method that acts; None where
        they are states.
        """
        frames = self.policies[method].models.frames
        return self.task.observer(None if frames is None else frames.encode)

    def rows(self) -> list[Row]:
        """One row of scores per method played."""
        return [self._row(method, episodes) for method, episodes in self.episodes.items()]

    def publish(self, store: Store, parents: Mapping[str, str], variant: str) -> str:
        """Puts scores, rewards and trajectories into the store.

        Tensors, for E episodes of at most T steps: `<method>/rewards` (E, T), `<method>/lengths`
        (E,), `<method>/first_reward` (E,), `<method>/success` (E,) where the environment says it,
        and with a layout `<method>/positions` (E, T + 1, 2); steps after the end of an episode are
        0 (rewards) and NaN (positions).

        Returns:
            The version of the evaluation.
        """
        task = self.task
        meta = Meta(
            kind="evaluation",
            spec=stage_spec(self.base, "evaluation", parents),
            parents=dict(parents),
            details={
                "rows": list(self.rows()),
                "score": self.base.evaluation.score,
                "max_episode_steps": task.max_episode_steps,
                "reference_scores": list(task.reference_scores) if task.reference_scores else None,
                "confidence": self.base.evaluation.confidence,
            },
        )
        tensors: dict[str, NDArray[Any]] = {}
        for method, episodes in self.episodes.items():
            tensors |= _tensors(method, episodes)
        return store.publish(meta, tensors, dump(self.base), variant)

    def _episodes(self, method: str) -> Generator[Episode, None, None]:
        settings = self.base.evaluation
        if settings.methods[method].policy == "behaviour":
            for index, rewards in enumerate(self._behaviour):
                yield Episode(index, np.asarray(rewards, dtype=np.float32), None)
            return
        layout = self.task.layout
        yield from rollout(
            self.task.make_env,
            self.policy(method),
            on_step=partial(self._step, method),
            episodes=settings.episodes,
            environments=settings.environments,
            seed=settings.seed,
            max_episode_steps=self.task.max_episode_steps,
            position_indices=layout.position_indices if layout else None,
            observe=self.observe(method),
            make_environments=self._environments.take,
        )

    def _check(self) -> int:
        """Compares the environment with the models; in how many processes it is to be stepped."""
        settings, make_env = self.base.evaluation, self.task.make_env
        env = make_env()
        try:
            for method, played in self.policies.items():
                size = played.policy.decoder.dimensions
                spaces = size.state, size.action, size.discrete_actions, played.policy.goal_dim
                check_spaces(env, *spaces, self.observe(method))
            width = min(settings.environments, settings.episodes)
            return worthwhile_processes(env, make_env, width, self.total_steps)
        finally:
            env.close()

    def _paths(self, method: str) -> int:
        played = self.policies.get(method)
        return played.policy.paths if played else 0

    def _step(self, method: str, environments: int) -> None:
        done = sum(self._steps.values())
        self._on_step(method, min(done, self.total_steps), self.total_steps)
        self._steps[method] += environments

    def _row(self, method: str, episodes: Sequence[Episode]) -> Row:
        settings = self.base.evaluation
        scores = score(
            [episode.rewards for episode in episodes],
            reference=self.task.reference_scores,
            first_hit=self.task.first_hit,
            max_episode_steps=self.task.max_episode_steps,
            confidence=settings.confidence,
            seed=settings.seed,
            said=[episode.success for episode in episodes],
            by_success=settings.score == "success",
        )
        row: dict[str, Any] = {
            "method": method,
            "return": asdict(scores.true_return),
            "first_hit": asdict(scores.first_hit) if scores.first_hit else None,
            "success": scores.success,
            "success_score": asdict(scores.success_score) if scores.success_score else None,
            "normalised": scores.normalised,
            "episodes": scores.episodes,
            "seed": settings.seed,
            "policy": settings.methods[method].policy,
            "variant": settings.methods[method].variant,
            "candidates": None,
            "depth": None,
            "execute_steps": None,
            "supported": False,
            "lookahead": 0.0,
        }
        if method in self.policies:
            models, policy = self.policies[method].models, self.policies[method].policy
            row |= {
                "candidates": policy.candidates,
                "depth": policy.depth if policy.candidates else None,
                "execute_steps": policy.execution.steps,
            }
            if models.critic is not None:
                actor = resolve_variant(self.base, settings.methods[method].variant).actor
                row |= {"supported": actor.support is not None, "lookahead": actor.lookahead}
        return row


def _tensors(method: str, episodes: Sequence[Episode]) -> dict[str, NDArray[Any]]:
    lengths = np.array([len(episode.rewards) for episode in episodes], dtype=np.int64)
    rewards = np.zeros((len(episodes), int(lengths.max())), dtype=np.float32)
    for index, episode in enumerate(episodes):
        rewards[index, : lengths[index]] = episode.rewards
    tensors: dict[str, NDArray[Any]] = {
        f"{method}/rewards": rewards,
        f"{method}/lengths": lengths,
        f"{method}/first_reward": first_reward_steps([e.rewards for e in episodes]),
    }
    said = [episode.success for episode in episodes]
    if None not in said:
        tensors[f"{method}/success"] = np.array(said, np.bool_)
    positions = padded_positions(episodes)
    return tensors if positions is None else {**tensors, f"{method}/positions": positions}


def padded_positions(episodes: Sequence[Episode]) -> NDArray[np.float32] | None:
    """Positions of episodes of at most T steps, (E, T + 1, 2), NaN after the end of an episode;
    None where some have none.
    """
    longest = max(len(episode.rewards) for episode in episodes)
    positions = np.full((len(episodes), longest + 1, 2), np.nan, dtype=np.float32)
    for row, episode in zip(positions, episodes, strict=True):
        if episode.positions is None:
            return None
        row[: len(episode.positions)] = episode.positions
    return positions
