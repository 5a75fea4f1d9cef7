"""A critic beside the rollouts of its policy: what it promised, where the agent stood still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.data import Task
from ldcq.config import Config
from ldcq.critic.critic import Critic
from ldcq.critic.diagnostics import STILL, calibration, displacements
from ldcq.data.latents import LatentTable
from ldcq.policies.base import StatefulPolicy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.vae.frames import Frames
from services.actor.evaluate import padded_positions
from services.actor.rollout import rollout

Array = NDArray[Any]

LOOKED_AT = 200_000
"""Windows whose displacements are looked at."""


@dataclass(frozen=True)
class Rollouts:
    """Some episodes of a policy.

    Attributes:
        promised: What the critic promised of every choice of a latent, (C,); see `calibration`.
        earned: The discounted rewards that it was to foretell, (C,).
        first: Which choices are the first of their episodes, (C,), bool.
        still: Share of steps from which on the agent hardly moves over one choice's steps.
        returns: Undiscounted return of every episode, (E,).
        positions: (E, T + 1, 2), NaN after the end of an episode; None for tasks without a layout.
    """

    promised: Array
    earned: Array
    first: Array
    still: float
    returns: Array
    positions: Array | None

    @property
    def ratio(self) -> float:
        """Promised over earned, both summed over first choices; NaN where nothing was earned."""
        earned = float(self.earned[self.first].sum())
        return float(self.promised[self.first].sum()) / earned if earned else float("nan")


class _Recording(StatefulPolicy):
    """A policy that keeps what it saw and chose, step by step, (E, ...) each."""

    def __init__(self, policy: LdcqPolicy, seed: int) -> None:
        super().__init__(policy, seed)
        self.states: list[Array] = []
        self.latents: list[Array] = []
        self.chosen: list[Array] = []
        self.steps: list[Array] = []  # left of each latent

    def act(self, observations: Array, goals: Array | None = None) -> Array:
        """Actions of one step; see `Policy.act`."""
        due = np.ones(len(observations), bool) if self._plan is None else self._plan.steps_left == 0
        actions = super().act(observations, goals)
        assert self._plan is not None
        self.states.append(np.array(observations, dtype=np.float32))
        self.latents.append(self._plan.latents)
        self.chosen.append(due)
        self.steps.append(self._plan.steps_left + 1)
        return actions


def play(
    config: Config,
    task: Task,
    policy: LdcqPolicy,
    table: LatentTable,
    episodes: int,
    frames: Frames | None = None,
) -> Rollouts:
    """Plays all episodes side by side, from the starts of an evaluation.

    Args:
        config: The pipeline's own configuration.
        task: What is played.
        policy: Plays.
        table: The data's windows, which say what standing still is.
        episodes: How many.
        frames: Compresses the images of the task; None: it has none.
    """
    recording, layout = _Recording(policy, config.evaluation.seed), task.layout
    played = rollout(
        task.make_env,
        recording,
        episodes=episodes,
        environments=episodes,  # every slot plays one, so that a column of the record is an episode
        seed=config.evaluation.seed,
        max_episode_steps=task.max_episode_steps,
        position_indices=layout.position_indices if layout else None,
        observe=task.observer(None if frames is None else frames.encode),
    )
    found = sorted(played, key=lambda episode: episode.index)
    lengths = [len(episode.rewards) for episode in found]
    kept = recording.states, recording.latents, recording.chosen, recording.steps
    states, latents, chosen, left = map(np.stack, kept)
    valued = np.array((*config.lengths, config.horizon))
    sides: list[tuple[Array, Array]] = []
    for place, (length, episode) in enumerate(zip(lengths, found, strict=True)):
        steps = np.flatnonzero(chosen[:length, place])
        pairs = policy.tensor(states[steps, place]), policy.tensor(latents[steps, place])
        with torch.inference_mode():
            scores = policy.critic.score_by_length(pairs[0], pairs[1].unsqueeze(1))[:, 0]
        # Of the least number of steps that is valued, and not less than was to be executed.
        column = np.searchsorted(valued, left[steps, place])
        values = scores.cpu().numpy()[np.arange(len(steps)), column]
        ended = length < task.max_episode_steps
        sides.append(calibration(values, steps, episode.rewards, config.discount, ended))
    paths = np.concatenate([states[:length, place] for place, length in enumerate(lengths)])
    numbers = np.repeat(np.arange(episodes), lengths)
    return Rollouts(
        promised=np.concatenate([promised for promised, _ in sides]),
        earned=np.concatenate([earned for _, earned in sides]),
        first=np.concatenate([np.arange(len(earned)) == 0 for _, earned in sides]),
        still=_still(policy.critic, policy.execution.steps, table, paths, numbers),
        returns=np.array([episode.rewards.sum() for episode in found]),
        positions=padded_positions(found),
    )


def _still(critic: Critic, steps: int, table: LatentTable, paths: Array, numbers: Array) -> float:
    """Share of displacements that are small beside the data's own; NaN without any of either."""

    def moved(states: Array, episode: Array) -> Array:
        rows = torch.as_tensor(states).to(critic.state_normaliser.mean)
        return displacements(critic.state_normaliser(rows).cpu().numpy(), episode, steps)

    data = moved(np.array(table.state[:LOOKED_AT]), table.episode[:LOOKED_AT])
    found = moved(paths, numbers)
    if not (data.size and found.size):
        return float("nan")
    return float(np.mean(found < STILL * np.median(data)))
