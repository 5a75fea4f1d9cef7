"""What is refused of a dataset and the environment that is to evaluate it: they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.data.flattening import Flattening, flat_spaces
from common.data.minari import SHOWN, MinariDataset
from common.stages import executed_kinds
from ldcq.config import Config, DataConfig, resolve_variant
from ldcq.data.episodes import DataError, Float, Spaces

if TYPE_CHECKING:
    from common.data.flat_environment import FlatEnvironment
    from common.data.hdf5 import Hdf5File
    from common.data.npz import NpzFile
    from common.data.task import Layout

RESETS = 10
"""How often an environment is reset to see whether its goals differ."""
ROUNDING = 1e-3
"""How far, in its own units, the same goal may be from itself."""


class OtherGoalsError(DataError):
    """Data whose rewards belong to other goals than the evaluated one."""


def check_environment(
    config: Config,
    dataset: MinariDataset | Hdf5File | NpzFile,
    environment: FlatEnvironment,
    name: str,
    layout: Layout | None,
) -> None:
    """Refuses an environment that cannot evaluate what is learned from a dataset.

    Args:
        config: Of the main pipeline, or of a variant that learns from the dataset.
        dataset: What is learned from.
        environment: What is evaluated; it is reset and stepped.
        name: Its id, for messages.
        layout: Its map, if it has one.

    Raises:
        OtherGoalsError: The rewards of the dataset belong to other goals.
        DataError: It has other spaces than the dataset, goals that differ where a method needs one
            goal, no goals as a method pursues them, or no `success` where that is the score.
    """
    spaces = flat_spaces(environment.flattening, environment.action_space, name)
    _check_spaces(spaces, name, dataset.spaces, dataset.name)
    if config.evaluation.score == "success":
        check_success(environment, name)
    if (goal := getattr(config.data.reward, "goal", None)) is not None:
        check_one_goal(environment, name, "data.reward is of one goal", goal)
    elif method := _blind_to_goals(config, environment.flattening):
        who = f"evaluation.methods.{method} values latents by the rewards of one goal"
        check_one_goal(environment, name, who)
    check_pursued_goals(config, environment, name)
    if isinstance(dataset, MinariDataset):
        check_goals(config.data, dataset, environment, layout)


def _check_spaces(given: Spaces, name: str, expected: Spaces, dataset: str) -> None:
    shape = attrgetter("state_dim", "action_dim", "discrete_actions", "frames")
    if shape(given) != shape(expected):
        raise DataError(
            f"evaluation.environment: {name} has {given.describe()}, but {dataset} has "
            f"{expected.describe()}; expected the same (see data.observation_keys)"
        )


def check_one_goal(
    environment: FlatEnvironment, name: str, who: str, expected: Sequence[float] | None = None
) -> None:
    """Refuses an environment whose goals differ between episodes.

    It is reset a few times. Its goals are one where reaching their centre, or what is expected, is
    reaching each of them, as its own `compute_reward` says (gymnasium-robotics moves a goal a bit
    in every episode); without that, where they are equal. An environment without goals passes.

    Args:
        environment: Is reset.
        name: Its id, for messages.
        who: What needs one goal, for messages.
        expected: The goal that it must be, shape (G,); None: any.

    Raises:
        DataError: They differ, or are not as expected.
    """
    found = _goals(environment)
    if found is None:
        return
    goals = found.astype(np.float64)
    wanted = goals.mean(axis=0) if expected is None else np.asarray(expected, np.float64)
    shown = ", ".join(str(goal.round(2).tolist()) for goal in np.unique(goals, axis=0)[:3])
    if not _reaches(environment, goals.mean(axis=0), goals):
        raise DataError(
            f"evaluation.environment: the goals of {name} differ between episodes ({shown}, ...), "
            f"but {who}; expected one goal. What helps: in a maze, kwargs.maze_map with one 'g', "
            "and common.data.wrappers:CentredGoal in wrappers; 'desired_goal' in "
            "data.observation_keys; or only methods that pursue goals (ldgc, ldcp)"
        )
    if wanted.shape != goals[0].shape or not _reaches(environment, wanted, goals):
        raise DataError(
            f"evaluation.environment: the goal of {name} is {shown}, but {who}, which is "
            f"{wanted.tolist()}; expected the same"
        )


def _reaches(
    environment: FlatEnvironment, place: npt.NDArray[np.float64], goals: npt.NDArray[np.float64]
) -> bool:
    """Whether being at `place`, (G,), is being at each of the goals, (M, G)."""
    import gymnasium

    if np.allclose(goals, place, atol=1e-6):
        return True
    space: Any = environment.env.observation_space
    reward: Any = getattr(environment.unwrapped, "compute_reward", None)
    if reward is None or not isinstance(space["desired_goal"], gymnasium.spaces.Box):
        return False
    there = place.reshape(space["desired_goal"].shape)
    each = [goal.reshape(there.shape) for goal in goals]
    return all(float(reward(there, goal, {})) == float(reward(goal, goal, {})) for goal in each)


def _blind_to_goals(config: Config, flattening: Flattening) -> str | None:
    """A method with a critic, where states do not say which goal an episode has."""
    if any(leaf.path[:1] == ("desired_goal",) for leaf in flattening.leaves):
        return None
    for name, method in config.evaluation.methods.items():
        if "critic" in executed_kinds(method.policy, config):
            return name
    return None


def check_pursued_goals(config: Config, environment: FlatEnvironment, name: str) -> None:
    """Refuses an environment without goals of as many entries as a method pursues.

    Args:
        config: As of `check_environment`.
        environment: Is reset.
        name: Its id, for messages.

    Raises:
        DataError: It has none, or others; or they are no entries of its states.
    """
    for method, settings in config.evaluation.methods.items():
        if settings.variant not in (config.variant, *config.variants):
            continue  # this is a variant's own configuration, and the method is the main pipeline's
        own, policy = resolve_variant(config, settings.variant), settings.policy
        indices = own.data.goal_indices
        near = own.actor.near_goal is not None and policy not in ("bc", "behaviour")
        if not indices or not (near or policy in ("ldgc", "ldcp")):
            continue
        size = environment.flattening.size
        if max(indices) >= size and not environment.flattening.frame_shape:
            raise DataError(
                f"data.goal_indices is {[*indices]}, expected entries of a state of {name}, 0 to "
                f"{size - 1}"
            )
        goals = _goals(environment)
        if goals is None or goals.shape[1] != len(indices):
            given = "no goals (no `desired_goal`)"
            if goals is not None:
                given = f"goals of {goals.shape[1]} entries"
            raise DataError(
                f"evaluation.environment: {name} has {given}, but evaluation.methods.{method} "
                f"pursues goals of {len(indices)} entries (data.goal_indices: {[*indices]}); "
                "expected the same"
            )


def check_success(environment: FlatEnvironment, name: str) -> None:
    """Refuses an environment whose `info` holds no success after a step.

    Args:
        environment: Is reset and stepped.
        name: Its id, for messages.

    Raises:
        DataError: It holds none.
    """
    from common.data.flat_environment import SUCCESS

    environment.reset(seed=0)
    environment.action_space.seed(0)
    info = environment.step(environment.action_space.sample())[-1]
    if SUCCESS not in info:
        raise DataError(
            f"evaluation.score: got 'success', but the info of {name} has none (it has "
            f"{', '.join(sorted(info)) or 'nothing'}); expected an environment whose info says "
            "`success` after a step, or evaluation.score=return"
        )


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
