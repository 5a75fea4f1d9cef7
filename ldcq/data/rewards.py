"""Rewards and terminations of one task, computed from the states of data that were recorded for
any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ldcq.config import DataConfig
from ldcq.config.reward import (
    KitchenSubtasksReward,
    OgbenchReward,
    ReadReward,
    StepCostReward,
    Subtask,
    TaskReward,
)
from ldcq.data.episodes import (
    Allocate,
    Boolean,
    DataError,
    Episode,
    Episodes,
    Float,
    blocks,
    join_episodes,
)

Double = npt.NDArray[np.float64]

KITCHEN_RADIUS = 0.3
"""Distance in joint space below which an object of the kitchen is where it should be (D4RL's
`BONUS_THRESH`)."""


class Element(NamedTuple):
    """Where a subtask's object is among the kitchen's 21 positions, and where it should be."""

    entries: tuple[int, ...]
    goal: tuple[float, ...]


KITCHEN: dict[Subtask, Element] = {
    "bottom burner": Element((2, 3), (-0.88, -0.01)),
    "top burner": Element((6, 7), (-0.92, -0.01)),
    "light switch": Element((8, 9), (-0.69, -0.05)),
    "slide cabinet": Element((10,), (0.37,)),
    "hinge cabinet": Element((11, 12), (0.0, 1.45)),
    "microwave": Element((13,), (-0.75,)),
    "kettle": Element((14, 15, 16, 17, 18, 19, 20), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
"""D4RL's subtasks: `OBS_ELEMENT_INDICES`, less the robot's 9 positions, and `OBS_ELEMENT_GOALS`."""


def goal_distances(states: Float, goal: Sequence[float], indices: Sequence[int]) -> Double:
    """Euclidean distance of states to a goal.

    Args:
        states: Shape (N, S).
        goal: Shape (G,).
        indices: Entries of a state that the goal prescribes, (G,).

    Returns:
        Shape (N,).
    """
    away: Double = np.linalg.norm(states[:, list(indices)] - np.asarray(goal), axis=1)
    return away


def subtask_distances(states: Float, subtasks: Sequence[Subtask], indices: Sequence[int]) -> Double:
    """Distance of the kitchen's objects to where each of K subtasks wants them, in joint space.

    Args:
        states: Shape (N, S).
        subtasks: Names, (K,).
        indices: Entries of a state that hold the positions of the 21 objects.

    Returns:
        Shape (N, K).
    """
    objects = states[:, list(indices)]
    wanted = [KITCHEN[name] for name in subtasks]
    return np.stack([goal_distances(objects, goal, entries) for entries, goal in wanted], axis=1)


def relabelled(episodes: Episodes, config: DataConfig, allocate: Allocate = np.empty) -> Episodes:
    """Episodes with the rewards and terminations that `data.reward` describes.

    A task rewards a step for the state that it leads to, as environments do. What terminated in the
    data did so in another task: it is cut there, as by a time limit. A step whose next state was
    not recorded has no reward, and is left out.

    With `terminates`, an episode ends with the first step into a state where the task is done. The
    steps from such states are left out, as nobody acts there in this task. Data that go on continue
    as another episode, from the first state on where it is not done: what they show of the way back
    is true of this task as well.

    Args:
        episodes: As recorded. Their fingerprint stays: it says what was recorded.
        config: The section `data`.
        allocate: Makes the arrays, where steps are left out.

    Raises:
        DataError: No step has a reward, no step is left, or a state has no such entries.
    """
    reward = config.reward
    if reward is None:
        return episodes
    if isinstance(reward, ReadReward):
        return replace(episodes, rewards=_scaled(_read(episodes, reward), reward))
    reached, distance = _progress(episodes, config, reward)
    done = reached.sum(axis=1)
    firsts = episodes.offsets + np.arange(episodes.count)  # rows of states
    lasts = firsts + episodes.lengths
    gained = np.delete(done, firsts)  # by every step: of the state that it leads to
    kept, ended = np.ones(len(gained), np.bool_), np.zeros(len(gained), np.bool_)
    kept[(episodes.offsets + episodes.lengths - 1)[~episodes.ends_seen]] = False
    if reward.terminates:
        ended = gained == _parts(reward)
        kept &= np.delete(done, lasts) < _parts(reward)
    if not gained[kept].any():
        raise _no_reward(episodes, config, reward, kept, np.delete(distance, firsts))
    values = gained - 1 if isinstance(reward, StepCostReward) else gained
    if isinstance(reward, KitchenSubtasksReward) and reward.once:
        ever = np.concatenate(
            [np.logical_or.accumulate(part) for part in np.split(reached, firsts[1:])]
        ).sum(axis=1)
        values = np.delete(ever, firsts) - np.delete(ever, lasts)
    renewed = replace(
        episodes,
        rewards=_scaled(values, reward),
        terminations=ended,
        truncations=(episodes.truncations | episodes.terminations) & ~ended,
    )
    return renewed if kept.all() else _only(renewed, kept, allocate)


def _read(episodes: Episodes, reward: ReadReward) -> Float:
    """The rewards that came with the data, or what is learned of them."""
    if not (isinstance(reward, OgbenchReward) and reward.sparse):
        return episodes.rewards
    if not episodes.terminations.any():
        raise DataError(
            f"data.reward.sparse: none of {len(episodes.rewards)} steps of {episodes.name} does "
            f"{reward.task}; expected some that do, or sparse=false, which rewards its parts"
        )
    left: Float = np.sign(episodes.rewards)  # OGBench: minus the number of parts left to do
    return left


def _scaled(rewards: npt.NDArray[np.generic], reward: TaskReward | ReadReward) -> Float:
    scaled: Float = (reward.scale * rewards.astype(np.float64) + reward.shift).astype(np.float32)
    return scaled


def _parts(reward: TaskReward) -> int:
    return len(reward.subtasks) if isinstance(reward, KitchenSubtasksReward) else 1


def _progress(episodes: Episodes, config: DataConfig, reward: TaskReward) -> tuple[Boolean, Double]:
    """Which of K parts of the task are done in every state, (M + E, K), and how far the nearest
    part is, (M + E,).
    """
    key, indices = "data.goal_indices", config.goal_indices
    if isinstance(reward, KitchenSubtasksReward):
        key, indices = "data.reward.indices", reward.indices
    if max(indices) >= episodes.spaces.state_dim:
        raise DataError(
            f"{key}: got {max(indices)}, expected entries of a state of {episodes.name}, 0 to "
            f"{episodes.spaces.state_dim - 1}"
        )
    done, nearest = [], []
    for states in blocks(episodes.observations):
        if isinstance(reward, KitchenSubtasksReward):
            apart = subtask_distances(states, reward.subtasks, indices)
            reached = apart < KITCHEN_RADIUS
        else:
            apart = goal_distances(states, reward.goal, indices)[:, None]
            reached = apart <= reward.threshold
        done.append(reached)
        nearest.append(apart.min(axis=1))
    return np.concatenate(done), np.concatenate(nearest)


def _no_reward(
    episodes: Episodes, config: DataConfig, reward: TaskReward, kept: Boolean, distance: Double
) -> DataError:
    """The error that says how far the data stay from the task."""
    if not kept.any():
        return DataError(
            f"data.reward: all {len(kept)} steps of {episodes.name} start where the task is done, "
            "or lead to a state that was not recorded; expected some that lead there"
        )
    steps = np.flatnonzero(kept)
    step = steps[np.argmin(distance[steps])]
    episode = int(np.searchsorted(episodes.offsets, step, side="right")) - 1
    within = int(step - episodes.offsets[episode]) + 1
    if isinstance(reward, KitchenSubtasksReward):
        missed, limit = f"none of the subtasks {', '.join(reward.subtasks)} is done", KITCHEN_RADIUS
        at, instead = "", "other subtasks, or the data.reward.indices that hold the objects"
    else:
        missed, limit = f"none comes to the goal {[*reward.goal]}", reward.threshold
        state = episodes.observations_of(episode)[within, list(config.goal_indices)]
        at = f"{[round(float(value), 4) for value in state]}, "
        instead = "a goal in the data's own coordinates, or a greater data.reward.threshold"
    return DataError(
        f"data.reward: {kept.sum()} steps of {episodes.name} were looked at, and {missed}: the "
        f"nearest state is {at}{distance[step]:.4g} away, after step {within} of episode "
        f"{episode}, expected {limit:g} or less; give {instead}"
    )


def _only(episodes: Episodes, kept: Boolean, allocate: Allocate) -> Episodes:
    """The steps that are kept; where some are left out, episodes end and others begin."""
    follows = kept[1:] & kept[:-1]
    follows[episodes.offsets[1:] - 1] = False
    begins = np.flatnonzero(kept & ~np.concatenate([[False], follows]))
    ends = np.flatnonzero(kept & ~np.concatenate([follows, [False]])) + 1
    source = np.searchsorted(episodes.offsets, begins, side="right") - 1
    truncations = episodes.truncations.copy()
    truncations[ends - 1] = ~episodes.terminations[ends - 1]
    parts = (
        Episode(
            episodes.observations[begin + shift : end + shift + 1],
            episodes.actions[begin:end],
            episodes.rewards[begin:end],
            episodes.terminations[begin:end],
            truncations[begin:end],
        )
        for begin, end, shift in zip(begins, ends, source, strict=True)
    )
    most = len(begins), int(kept.sum())
    given = episodes.spaces, episodes.name, episodes.reference_scores
    joined = join_episodes(parts, *given, most=most, allocate=allocate)
    return replace(joined, fingerprint=episodes.fingerprint)
