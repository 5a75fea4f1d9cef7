"""The configuration tree. Defaults are the paper's (Tables 5-7, supplement A) unless a field says
otherwise.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ldcq.config.actor import ActorConfig, EvaluationConfig
from ldcq.config.critic import CriticConfig
from ldcq.config.data import DataConfig
from ldcq.config.prior import PriorConfig
from ldcq.config.reward import OgbenchReward, TaskReward
from ldcq.config.section import Positive, Section, Seed
from ldcq.config.supervised import BcConfig, FramesConfig, VaeConfig, WorldModelConfig
from ldcq.config.task import TaskConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class TrainingConfig(Section):
    """What all training stages share."""

    checkpoint_every: Positive = 500
    """Steps between resumable checkpoints."""
    keep_checkpoints: Positive = 2
    log_every: Positive = 50
    """Steps between rows of the metric logs."""
    validate_every: Positive = 500
    memory: Positive | None = None
    """MiB of data that a stage is trained from in memory; what is larger stays on disk and is read
    as it is needed. None: a quarter of the machine's memory."""


class Config(Section):
    """Everything that decides a result. Where services listen and how many there are is not here:
    it decides none.
    """

    name: str = "paper"
    task: TaskConfig | None = None
    """What is known of the task, where this is one of a benchmark's."""
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    """Threads of one process's tensor operations on a CPU."""
    horizon: Positive = 30
    """H, the steps of a window."""
    lengths: tuple[Positive, ...] = ()
    """k < H, ascending: latents are valued for k executed steps as well; none in the paper."""
    discount: Annotated[float, Field(gt=0, le=1)] = 0.995
    """gamma, per environment step."""
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    frames: FramesConfig | None = None
    """Compress the images of the observations, each to a vector that stands for it in the state;
    null: there are none, and a dataset with images is refused."""
    vae: VaeConfig = VaeConfig()
    prior: PriorConfig = PriorConfig()
    critic: CriticConfig = CriticConfig()
    world_model: WorldModelConfig = WorldModelConfig()
    bc: BcConfig = BcConfig()
    actor: ActorConfig = ActorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    variant: str = "main"
    """Which of the pipelines that share a store this is."""
    variants: dict[str, dict[str, object]] = Field(default={})
    """Pipelines to train beside the main one: for each, the keys it overrides (`{bcq_h:
    {prior.implementation: gaussian}}`)."""

    @model_validator(mode="after")
    def _windows_are_long_enough(self) -> Config:
        if self.actor.execute_steps is not None and self.actor.execute_steps > self.horizon:
            raise ValueError(
                f"actor.execute_steps is {self.actor.execute_steps}, expected at most horizon "
                f"({self.horizon})"
            )
        if self.vae.decoded_steps is not None and self.vae.decoded_steps > self.horizon:
            raise ValueError(
                f"vae.decoded_steps is {self.vae.decoded_steps}, expected at most horizon "
                f"({self.horizon})"
            )
        return self

    @model_validator(mode="after")
    def _lengths_can_be_valued(self) -> Config:
        allowed = sorted({k for k in self.lengths if k < self.horizon})
        if [*self.lengths] != allowed:
            raise ValueError(
                f"lengths is {[*self.lengths]}, expected different numbers of steps below horizon "
                f"({self.horizon}), ascending: set lengths to {allowed}"
            )
        if self.lengths and not self.critic.has_value_network:
            raise ValueError(
                f"critic.target is {self.critic.target!r}, expected one of the V-network "
                f"(expectile_...), since lengths is {[*self.lengths]} and candidates are of "
                "s_(t+H): set one of these, or lengths to []"
            )
        return self

    @model_validator(mode="after")
    def _lookahead_can_be_had(self) -> Config:
        if self.actor.lookahead and not self.world_model.rewards:
            raise ValueError(
                f"world_model.rewards is false, expected true, since actor.lookahead is "
                f"{self.actor.lookahead:g}: set it, or actor.lookahead to 0"
            )
        if self.actor.lookahead and not (self.critic.dueling or self.critic.has_value_network):
            raise ValueError(
                f"critic.target is {self.critic.target!r} without critic.dueling, expected a "
                f"critic with V(s), since actor.lookahead is {self.actor.lookahead:g}: set "
                "critic.dueling to true, or actor.lookahead to 0"
            )
        return self

    @model_validator(mode="after")
    def _variants_have_names_of_their_own(self) -> Config:
        if "main" in self.variants:
            raise ValueError(
                "variants.main is given, expected any other name: main is this configuration itself"
            )
        for name in self.variants:
            if not _NAME.fullmatch(name):  # artifacts and logs are named by it
                raise ValueError(
                    f"variants.{name} is given, expected a name of letters, digits, '_', '-' and "
                    "'.' that begins with a letter or digit"
                )
        return self

    @model_validator(mode="after")
    def _rewards_are_seen(self) -> Config:
        reward = self.data.reward
        if self.frames is not None and isinstance(reward, TaskReward):
            raise ValueError(
                f"data.reward.kind is {reward.kind!r}, expected 'recorded' or null, since rewards "
                "are not computed from images: `frames` is set"
            )
        return self

    @model_validator(mode="after")
    def _rewards_are_of_the_evaluated_task(self) -> Config:
        reward, environment = self.data.reward, self.evaluation.environment.id or ""
        module, _, played = environment.rpartition(":")
        if (
            isinstance(reward, OgbenchReward)
            and module in ("", "ogbench")
            and played not in ("", reward.task)
        ):
            raise ValueError(
                f"data.reward.task is {reward.task!r}, but evaluation.environment is "
                f"{environment!r}; expected the same task: set both, "
                f"data.reward.task={played} and evaluation.environment=ogbench:{played}, or "
                f"{reward.task} in both"
            )
        return self

    @model_validator(mode="after")
    def _goals_are_known(self) -> Config:
        near = self.actor.near_goal
        if near is not None and not self.data.goal_indices:
            raise ValueError(
                "data.goal_indices is empty, expected the entries of the state that a goal "
                "prescribes, since actor.near_goal is set"
            )
        if near is not None and near.execute_steps > (self.actor.execute_steps or self.horizon):
            raise ValueError(
                f"actor.near_goal.execute_steps is {near.execute_steps}, expected at most "
                f"actor.execute_steps ({self.actor.execute_steps or self.horizon})"
            )
        if self.prior.goal_conditioned and not self.data.goal_indices:
            raise ValueError(
                "data.goal_indices is empty, expected the entries of the state that a goal "
                "prescribes, since prior.goal_conditioned is true"
            )
        return self

    @model_validator(mode="after")
    def _methods_are_of_variants(self) -> Config:
        known = {"main", self.variant, *self.variants}
        for name, method in self.evaluation.methods.items():
            if method.variant not in known:
                raise ValueError(
                    f"evaluation.methods.{name}.variant is {method.variant!r}, expected one of "
                    f"{sorted(known)}"
                )
        return self
