"""The sections `actor` and `evaluation`: how policies act, and which of them are scored."""

from __future__ import annotations

import re
from math import inf
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_serializer, model_validator

from ldcq.config.prior import SamplingConfig
from ldcq.config.section import Fraction, Positive, PositiveFloat, Section, Seed


class PlanningConfig(Section):
    """Planning with the world model (LDCP, Algorithm 2)."""

    depth: Positive = 2
    """d, latents in a row; n^d of them are compared."""
    candidates: Positive = 50
    """n, latents per state and level."""
    cost: Annotated[str, Field(min_length=1)] = "euclidean"
    """What a predicted state costs: `euclidean`, its distance to the goal, or a function of your
    own as `package.module:function`."""


class NearGoalConfig(Section):
    """What changes near the goal."""

    distance: PositiveFloat
    """Euclidean, between the goal and the entries `data.goal_indices` of the raw state."""
    execute_steps: Positive
    """Steps of a latent that are executed there."""


class SupportConfig(Section):
    """Which candidates may be chosen by their value: those of which the world model says that they
    lead to where the data are.

    The distance of a state to the data is that to the 10th nearest of some of their states (see
    `world_model.reference_states`), in standard deviations.
    """

    quantile: Fraction = 0.9
    """Of the data's own distances, up to which a candidate may be chosen."""
    kept: Fraction = 0.1
    """Share of the candidates, those that lead closest to the data, that may always be."""


class ActorConfig(Section):
    """Policy execution (section 4.2)."""

    candidates: Positive = 500
    execute_steps: Positive | None = None
    """Most steps of a latent that are executed before the next is chosen; None: H. With `lengths`
    the critic chooses how many."""
    near_goal: NearGoalConfig | None = None
    """Choose anew more often near the environment's goal; needs `data.goal_indices`."""
    sample_actions: bool = False
    """Draw actions from the decoder instead of taking its mode."""
    sampling: SamplingConfig = SamplingConfig()
    planning: PlanningConfig = PlanningConfig()
    lookahead: Fraction = 0.0
    """w: `ldcq` and `bcq_h` value a latent by (1 - w) Q(s, z) + w (r + gamma^k V(s')), where the
    world model says what r and s' are; 0: by Q alone."""
    support: SupportConfig | None = None
    """`ldcq` and `bcq_h` choose only latents that lead to where the data are; needs the world
    model. None: any candidate."""

    @property
    def needs_world_model(self) -> bool:
        """Whether `ldcq` and `bcq_h` ask the world model."""
        return self.support is not None or self.lookahead > 0


class MethodConfig(Section):
    """One row of the scores: a policy over the models of a variant."""

    policy: Literal["ldcq", "bcq_h", "ldgc", "ldcp", "bc", "prior", "behaviour"]
    """`ldcq`: the best candidate by the critic; `bcq_h`: the same over a Gaussian prior; `ldgc`:
    one sample of a goal-conditioned prior; `ldcp`: the best candidate by the world model; `bc`: the
    network of behaviour cloning; `prior`: one sample of a prior without goals; `behaviour`: what
    the dataset itself scores."""
    variant: str = "main"


class EnvironmentConfig(Section):
    """An environment to play in. A string in its place is its `id`; null is one without any key."""

    id: Annotated[str, Field(min_length=1)] | None = None
    """A Gymnasium id, or `module:id` of one of your own; None: the evaluation environment recorded
    with the dataset."""
    kwargs: dict[str, JsonValue] = Field(default={})
    """Keyword arguments that it is made with."""
    wrappers: tuple[str, ...] = ()
    """What it is wrapped in, first to last, as `package.module:Callable`: each takes an environment
    and returns one. Observations are flattened afterwards."""
    max_episode_steps: Positive | None = None
    """Its time limit; None: its own."""

    @model_validator(mode="before")
    @classmethod
    def _is_named_by_a_string(cls, given: object) -> object:
        if given is None:
            return {}
        if isinstance(given, str):
            return {"id": given}
        if not isinstance(given, dict):
            raise ValueError(
                f"got {given!r}, expected a Gymnasium id, or a section of {', '.join(cls._keys())}"
            )
        return given

    @field_validator("kwargs")
    @classmethod
    def _kwargs_are_its_own(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for key in given:
            if key in ("id", "max_episode_steps"):
                raise ValueError(
                    f"got {key!r}, expected arguments of the environment; write it as "
                    f"evaluation.environment.{key}"
                )
            if key == "render_mode":
                raise ValueError("got 'render_mode', expected none: evaluation.video decides it")
        return given

    @field_validator("wrappers")
    @classmethod
    def _wrappers_are_named(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if not re.fullmatch(r"[\w.]+:\w+", name):
                raise ValueError(f"got {name!r}, expected package.module:Callable")
        return given

    @model_serializer(mode="plain")
    def _as_it_is_written(self) -> str | dict[str, Any] | None:
        """A lone id is a string."""
        said = {key: getattr(self, key) for key in self._keys()}
        given = {key: value for key, value in said.items() if value}
        if set(given) <= {"id"}:
            return self.id
        return said | {"wrappers": [*self.wrappers]}

    @classmethod
    def _keys(cls) -> list[str]:
        return [*cls.model_fields]


class EvaluationConfig(Section):
    """Rollouts and scores (section 5.4)."""

    methods: dict[str, MethodConfig] = Field(
        default={
            "ldcq": MethodConfig(policy="ldcq"),
            "prior": MethodConfig(policy="prior"),
            "behaviour": MethodConfig(policy="behaviour"),
        }
    )
    episodes: Positive = 100
    environments: Positive = 50
    """Environments stepped side by side."""
    seed: Seed = 1000
    environment: EnvironmentConfig = EnvironmentConfig()
    """What is played in; null: the evaluation environment recorded with the dataset."""
    score: Literal["return", "success"] = "return"
    """What methods are scored by: `return`, normalised by the reference scores where these are
    known, or `success`: 100 times the share of episodes with `info["success"]` true at some step.
    """
    reference_scores: tuple[float, float] | None = None
    """Returns that score 0 and 100; None: those recorded with the dataset."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    report: bool = True
    """Write the store's report.html after an evaluation."""
    video: bool = True

    @field_validator("reference_scores")
    @classmethod
    def _scores_are_apart(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and not -inf < given[0] < given[1] < inf:
            raise ValueError(f"got {[*given]}, expected two numbers, ascending")
        return given
