"""Whose rewards a dataset records: of the evaluated goal, or of those that its episodes had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.data.minari import SHOWN, MinariDataset
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError, Float

if TYPE_CHECKING:
    from common.data.flat_environment import FlatEnvironment
    from common.data.task import Layout

RESETS = 5
"""Of an environment, which show where its goals are."""
ROUNDING = 1e-3
"""How far, in its own units, the same goal may be from itself."""


class OtherGoalsError(DataError):
    """Data whose rewards belong to other goals than the evaluated one."""


def check_goals(
    config: DataConfig, dataset: MinariDataset, environment: FlatEnvironment, layout: Layout | None
) -> None:
    """Refuses rewards that belong to other goals than those that are evaluated, unless
    `config.reward` says which rewards count.

    Args:
        config: The section `data`.
        dataset: What is learned from.
        environment: What is evaluated. A maze's goal may be moved a little at random.
        layout: Its map, if it has one, where the goal is exact.

    Raises:
        OtherGoalsError: The message holds the setting that helps.
    """
    recorded = None if config.reward is not None else dataset.goals()
    evaluated = None if recorded is None else _goals(environment)
    if recorded is None or evaluated is None:
        return
    if recorded.shape[1] == evaluated.shape[1]:
        low, high = evaluated.min(axis=0), evaluated.max(axis=0)
        slack = (high - low) + ROUNDING
        if bool(((recorded >= low - slack) & (recorded <= high + slack)).all()):
            return
    goal = evaluated.mean(axis=0) if layout is None or layout.goal is None else layout.goal
    raise OtherGoalsError(
        f"data.reward: not given, but the rewards of {dataset.name} belong to "
        f"{_listed(recorded)}, and the evaluated goal is {_text(goal)}; expected the rewards of "
        f"that goal: set {_setting(config, environment, layout, goal)}, or "
        "data.reward={kind: recorded} to learn the recorded ones all the same"
    )


def _goals(environment: FlatEnvironment) -> Float | None:
    """Of some episodes, shape (RESETS, G); None where the task has none."""
    from common.data.flat_environment import GOAL

    infos = [environment.reset(seed=seed)[1] for seed in range(RESETS)]
    return np.stack([info[GOAL] for info in infos]) if GOAL in infos[0] else None


def _listed(goals: Float) -> str:
    if len(goals) == 1:
        return f"the goal {_text(goals[0])}"
    shown = ", ".join(_text(goal) for goal in goals[:SHOWN])
    more = f" and {len(goals) - SHOWN} more" if len(goals) > SHOWN else ""
    return f"the goals {shown}{more}"


def _text(goal: npt.NDArray[np.floating]) -> str:
    return str([round(float(value), 4) for value in goal])


def _setting(
    config: DataConfig,
    environment: FlatEnvironment,
    layout: Layout | None,
    goal: npt.NDArray[np.floating],
) -> str:
    observation: Any = environment.env.reset(seed=0)[0]
    if isinstance(observation["desired_goal"], Mapping):
        subtasks = ", ".join(observation["desired_goal"])
        return f"data.reward={{kind: kitchen_subtasks, subtasks: [{subtasks}], indices: [...]}}"
    position = [*layout.position_indices] if layout else "[...]"
    entries = "" if config.goal_indices else f"data.goal_indices={position} and "
    goes_on = getattr(environment.unwrapped, "continuing_task", True)
    ends = "" if goes_on else ", terminates: true"
    return f"{entries}data.reward={{kind: sparse, goal: {_text(goal)}, threshold: 0.5{ends}}}"
