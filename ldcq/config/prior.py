"""The section `prior`: which implementation, and how a prior is trained and sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ldcq.config.section import NonNegative, Positive, PositiveFloat, Section


class SamplingConfig(Section):
    """How a prior is sampled; None leaves the choice to the model's own defaults.

    A prior without denoising steps takes the temperature alone.
    """

    solver: str | None = None
    steps: Positive | None = None
    """Denoising steps, at most the T of training."""
    guidance: Annotated[float, Field(ge=0)] | None = None
    """w of classifier-free guidance; 1 is the conditional model."""
    nulled: Literal["state", "goal", "both"] | None = None
    """What the unconditional half of guidance goes without; a prior without goals takes `state`
    only."""
    extra_steps: NonNegative | None = None
    """Diffusion-X: further denoising steps at t = 1 (supplement E)."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Factor on the noise: 1 is the model's distribution, 0 has no noise."""


class PriorConfig(Section):
    """The latent prior p(z | s): which implementation, and how it is trained and sampled."""

    implementation: Annotated[str, Field(min_length=1)] = "diffusion"
    """A name registered in the entry-point group `ldcq.priors`: `diffusion`, `gaussian`, or a
    third party's."""
    options: dict[str, dict[str, JsonValue]] = Field(default={})
    """Hyperparameters that one implementation alone has, by its name: it knows and checks them when
    it is trained. Those of other implementations do not count."""
    goal_conditioned: bool = False
    """Learn p(z | s, goal) (LDGC, section 4.3); needs `data.goal_indices`."""
    goal_drop_probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that training nulls the goal, apart from the state."""
    hindsight_steps: Positive | None = None
    """Training goals are states of the same episode at most this many steps after the window's end;
    None: up to the episode's end."""
    learning_rate: PositiveFloat = 1e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 32
    epochs: Positive = 300
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the exponential moving average of the weights that is published; 0 publishes the
    last weights. The paper has none."""
    sampling: SamplingConfig = SamplingConfig(
        solver="ddpm", guidance=1.0, extra_steps=10, temperature=1.0
    )
    """What a request that sets nothing gets; `steps` None means all T."""
