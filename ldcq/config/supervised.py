"""The sections `frames`, `vae`, `world_model` and `bc`: networks that are fitted to the rows of a
table.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ldcq.config.section import Positive, PositiveFloat, Section, Widths

DecoderKind = Literal["autoregressive", "independent"]
"""Of continuous actions. `autoregressive`: a network for every dimension, which sees those before
(A.2.1); `independent`: one network for all, about as many times cheaper as there are dimensions."""


class FramesConfig(Section):
    """The beta-VAE of single frames, whose latents take the place of images (supplement C)."""

    latent_dim: Positive = 32
    channels: Widths = (32, 64, 128, 256)
    """Of the convolutions, each of which halves both sides of a frame."""
    hidden: Positive = 256
    beta: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the KL term; the other is half the squared error, summed over values in [0, 1]."""
    shape: Annotated[tuple[Positive, ...], Field(min_length=3, max_length=3)] | None = None
    """Of frames that the data hold as flat rows of numbers, [48, 48, 3] in D4RL's CARLA; None: they
    have their own."""
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 128
    epochs: Positive = 30


class VaeConfig(Section):
    """The beta-VAE over windows (section 4.1, A.2.1, Table 5)."""

    encoder: Literal["gru", "mlp"] = "gru"
    """`gru`: 2 stacked bidirectional layers, the paper's; `mlp`: over the flattened window, 5-20
    times cheaper on a CPU."""
    latent_dim: Positive = 16
    hidden: Positive = 256
    decoder: DecoderKind = "autoregressive"
    decoder_hidden: Positive = 256
    beta: Annotated[float, Field(ge=0)] = 0.05
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    """Floor of the decoder's standard deviation, in halves of the range that the data's actions
    have; saturated actions would drive it to zero."""
    decoded_steps: Positive | None = None
    """Time steps of a window that enter the reconstruction term of one update, drawn at random and
    rescaled; None: all H."""
    learning_rate: PositiveFloat = 5e-5
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 128
    epochs: Positive = 100


class WorldModelConfig(Section):
    """The temporally abstract world model p(s_{t+H} | s_t, z) (supplement B)."""

    hidden: Widths = (256, 256, 256)
    rewards: bool = False
    """Predict r_{t:t+k} and whether the episode goes on as well, after all `lengths` and H steps:
    what `actor.lookahead` needs. The paper's predicts s_{t+H} alone."""
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 128
    epochs: Positive = 100
    reference_states: Positive = 4096
    """States of the data that it keeps, which say where the data are (`actor.support`); half the
    training windows where those are fewer than twice as many."""


class BcConfig(Section):
    """Behaviour cloning: a network pi(a | s) without latents, the paper's BC column."""

    decoder: DecoderKind = "autoregressive"
    hidden: Positive = 256
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 256
    epochs: Positive = 100
