"""The section `data`: what is learned from, and how it is generated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ldcq.config.generate import Generate
from ldcq.config.reward import (
    KINDS,
    KitchenSubtasksReward,
    OgbenchReward,
    RewardConfig,
    SparseReward,
    StepCostReward,
)
from ldcq.config.section import NonNegative, Positive, Section

FILES = (".hdf5", ".h5", ".npz")
"""How the names of data files end: D4RL's and OGBench's."""


class DataConfig(Section):
    """What is learned from."""

    dataset: Annotated[str, Field(min_length=1)] = "D4RL/pointmaze/large-v2"
    """A Minari dataset id, or the path of a file: D4RL's HDF5 (ending in .hdf5 or .h5), OGBench's
    npz."""
    download: bool = False
    """Fetch the Minari dataset when it is not on this machine."""
    observation_keys: tuple[str, ...] | None = None
    """Keys of a dictionary observation to concatenate, in this order; None: all of them, sorted."""
    episode_steps: Positive | None = None
    """Of a D4RL HDF5 file: its episodes are cut after as many steps, beside `terminals` and
    `timeouts`. None: where these leave something out, resets are found in the states."""
    goal_indices: tuple[NonNegative, ...] = ()
    """Entries of the flat state that a goal prescribes, in the goal's order (x and y in a maze);
    empty for a task without goals."""
    reward: RewardConfig | None = None
    """Rewards and terminations of the evaluated task, for data that were recorded for other ones;
    `kind` says which. None: those of the dataset, refused where they belong to other goals than the
    evaluated one."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the episodes kept from training and used to report validation losses."""
    generate: Generate | None = None
    """Generate the dataset under the id `dataset` when it is not on this machine; `kind` says what
    (left out: `pointmaze`)."""

    @property
    def is_file(self) -> bool:
        """Whether `dataset` is a path, which its ending says."""
        return self.dataset.lower().endswith(FILES)

    @property
    def scored(self) -> DataConfig:
        """With rewards as a task's score counts them: `shift` and `scale` are for learning, and so
        are a subtask's reward in every step, and those that no part of a task has.
        """
        if self.reward is None:
            return self
        counted: dict[str, object] = {"shift": 0.0, "scale": 1.0}
        if isinstance(self.reward, KitchenSubtasksReward):
            counted["once"] = True
        elif isinstance(self.reward, OgbenchReward):
            counted["sparse"] = False
        return self.model_copy(update={"reward": self.reward.model_copy(update=counted)})

    @field_validator("generate", mode="before")
    @classmethod
    def _mazes_need_no_kind(cls, given: object) -> object:
        return {"kind": "pointmaze", **given} if isinstance(given, dict) else given

    @field_validator("reward", mode="before")
    @classmethod
    def _known_kind(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("kind") not in KINDS:
            kind = f"kind {given['kind']!r}" if "kind" in given else "no kind"
            raise ValueError(f"{kind} given, expected one of {', '.join(KINDS)}")
        return given

    @model_validator(mode="after")
    def _ogbench_s_rewards_are_of_its_files(self) -> DataConfig:
        if isinstance(self.reward, OgbenchReward) and self.dataset.lower().endswith(FILES[:2]):
            raise ValueError(
                f"reward.kind is 'ogbench', expected another for {self.dataset!r}, which is no "
                "file of OGBench (.npz) and keeps no simulator's states: null, if its rewards are "
                "of the task"
            )
        return self

    @model_validator(mode="after")
    def _goal_is_of_the_state(self) -> DataConfig:
        reward = self.reward
        if isinstance(reward, SparseReward | StepCostReward) and len(reward.goal) != len(
            self.goal_indices
        ):
            raise ValueError(
                f"reward.goal is {[*reward.goal]}, expected one number for every entry of "
                f"data.goal_indices, which is {[*self.goal_indices]}"
            )
        return self
