"""The section `data.reward`: the rewards of one task, for data that were recorded for others."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from ldcq.config.section import NonNegative, PositiveFloat, Section

Subtask = Literal[
    "bottom burner",
    "top burner",
    "light switch",
    "slide cabinet",
    "hinge cabinet",
    "microwave",
    "kettle",
]
"""What D4RL's kitchen asks for."""
KITCHEN_OBJECTS = 21
"""Positions of the objects in a state of the kitchen."""


class _Reward(Section):
    """What all kinds have. The critic learns `scale` * reward + `shift`."""

    shift: float = 0.0
    scale: float = 1.0

    @field_validator("scale")
    @classmethod
    def _rewards_differ(cls, given: float) -> float:
        if not given:
            raise ValueError("got 0, with which all rewards are the same; expected another number")
        return given


class RecordedReward(_Reward):
    """The rewards and terminations that were recorded."""

    kind: Literal["recorded"] = "recorded"


class OgbenchReward(_Reward):
    """The rewards and terminations of one of OGBench's tasks, told by OGBench from the simulator's
    states in its file.
    """

    kind: Literal["ogbench"] = "ogbench"
    task: Annotated[str, Field(min_length=1)]
    """Gymnasium id of its environment, such as scene-singletask-task1-v0."""
    sparse: bool = False
    """Whether the critic learns -1 for every step that leaves the task undone, whatever parts of it
    are done, and 0 for the one that does it."""


class _Task(_Reward):
    """Rewards that are computed from the state after a step."""

    terminates: bool = False
    """Whether an episode ends where the task is done, as a terminal state. Steps from states in
    which it is done are left out; from the next other state on, another episode begins."""


class _GoalReward(_Task):
    goal: Annotated[tuple[float, ...], Field(min_length=1)]
    """Values of the entries `data.goal_indices` of the state, in their order and units."""
    threshold: PositiveFloat = 0.5
    """Euclidean distance from the goal up to which it is reached."""


class SparseReward(_GoalReward):
    """1 where the goal is reached, else 0."""

    kind: Literal["sparse"] = "sparse"


class StepCostReward(_GoalReward):
    """0 where the goal is reached, else -1."""

    kind: Literal["step_cost"] = "step_cost"


class KitchenSubtasksReward(_Task):
    """How many subtasks are done, in every step, as in D4RL's files."""

    kind: Literal["kitchen_subtasks"] = "kitchen_subtasks"
    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1)] = (
        "microwave",
        "kettle",
        "bottom burner",
        "light switch",
    )
    indices: tuple[NonNegative, ...]
    """Entries of the state that hold the positions of the kitchen's 21 objects: 9 to 29 in D4RL's
    files of 60 entries, 18 to 38 in Minari's of 59."""
    once: bool = False
    """Whether a subtask is rewarded in the step alone that first does it in an episode, as D4RL's
    score counts it."""

    @field_validator("subtasks", "indices")
    @classmethod
    def _none_is_given_twice(cls, given: tuple[object, ...]) -> tuple[object, ...]:
        if twice := [item for item, count in Counter(given).items() if count > 1]:
            raise ValueError(f"got {twice[0]!r} twice, expected it once")
        return given

    @field_validator("indices")
    @classmethod
    def _one_for_every_object(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if len(given) != KITCHEN_OBJECTS:
            raise ValueError(
                f"got {len(given)} entries, expected the {KITCHEN_OBJECTS} that hold the objects' "
                "positions"
            )
        return given


TaskReward = SparseReward | StepCostReward | KitchenSubtasksReward
"""The kinds that compute rewards and terminations anew."""
ReadReward = RecordedReward | OgbenchReward
"""The kinds whose rewards and terminations are read with the data."""
RewardConfig = Annotated[TaskReward | ReadReward, Field(discriminator="kind")]
KINDS = tuple(
    str(kind.model_fields["kind"].default)
    for kind in (*get_args(TaskReward), *get_args(ReadReward))
)
