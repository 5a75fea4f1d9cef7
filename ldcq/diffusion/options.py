"""The hyperparameters of the latent diffusion prior alone (section 4.1, A.2.2, Table 6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ldcq.config.section import Octaves, Positive, PositiveFloat, Widths
from ldcq.diffusion.schedule import Schedule
from ldcq.prior import PriorOptions


class DiffusionOptions(PriorOptions):
    """`prior.options.diffusion`."""

    steps: Annotated[int, Field(ge=2)] = 200
    """T; section 5.4 says 200, Table 6 says 500."""
    schedule: Schedule = "linear"
    blocks: Widths = (128, 32, 16, 8, 16, 32, 128)
    """Widths of the residual blocks; equal widths are joined by skip connections from the outside
    in. The default are the 7 widths of A.2.2, which counts 8 blocks (docs/paper.md)."""
    condition_dim: Positive = 128
    """Width of the state's encoding."""
    octaves: Octaves = 0
    """The encoders see sines and cosines of every entry of state and goal as well, of periods of
    two standard deviations and as many octaves up: a prior over a maze knows walls sooner."""
    time_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 256
    """Width of the sinusoidal embedding of t."""
    drop_probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that training nulls the state, for classifier-free guidance."""
    min_snr_gamma: PositiveFloat = 5.0
    clip_sample: PositiveFloat | None = None
    """Bound of the predicted z0 in standardised latents; None: unbounded."""
