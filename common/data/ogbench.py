"""Rewards of OGBench's tasks, told by its own rule from the simulator's states in its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.extras import require
from ldcq.data.episodes import DataError

STATES = ("qpos", "button_states")
"""What OGBench tells rewards from."""


def task_labels(
    task: str, states: Mapping[str, npt.NDArray[Any]], name: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Rewards and masks of a task in every state; a mask is 0 where the task is done.

    Args:
        task: Gymnasium id of a single-task environment, such as scene-singletask-task1-v0.
        states: Rows of `qpos` and, where buttons count, of `button_states`.
        name: Of the data, for messages.

    Returns:
        `rewards` and `masks`, a number for every row.

    Raises:
        DataError: OGBench is missing, or the task is not one of the environment that `states` are
            of.
    """
    require("ogbench", f"data.reward.task: {task}")
    from ogbench.relabel_utils import relabel_dataset

    from common.data.flat_environment import make_registered

    if "qpos" not in states:
        raise DataError(
            f"{name}: no qpos; expected the simulator's states, to tell the rewards of {task}, or "
            "recorded rewards and no data.reward.task"
        )
    labels = dict(states)
    environment = make_registered(f"ogbench:{task}", None)
    try:
        environment.reset(seed=0)
        info = environment.step(environment.action_space.sample())[4]
        given, expected = labels["qpos"].shape[1:], np.shape(info["qpos"])
        if given != expected:
            raise ValueError(f"qpos of {given[0]} entries, expected {expected[0]}")
        relabel_dataset(task, environment, labels)
    except (AssertionError, KeyError, ValueError) as error:
        raise DataError(
            f"data.reward.task: {task} does not go with the states in {name} ({error}); "
            "expected one of OGBench's single-task ids, of the same environment"
        ) from error
    finally:
        environment.close()
    return {key: labels[key] for key in ("rewards", "masks")}


def attempts(going: npt.NDArray[np.bool_]) -> Iterator[slice]:
    """The steps of one trajectory as episodes, which end with a step from a state where the task is
    done. Further steps from such states are left out, as nobody acts there in this task.

    Args:
        going: Whether the task is still to be done where a step starts, shape (T,).
    """
    done = 1 + np.flatnonzero(~going)
    for first, last in pairwise(np.unique([0, *done, len(going)]).tolist()):
        if first == 0 or going[first] or going[first - 1]:
            yield slice(first, last)
