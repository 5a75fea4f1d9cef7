"""The section `critic`: latent Q-learning and its replay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ldcq.config.prior import SamplingConfig
from ldcq.config.section import (
    Fraction,
    NonNegative,
    Positive,
    PositiveFloat,
    Rate,
    Section,
    Widths,
)


class ReplayConfig(Section):
    """Prioritised experience replay (Table 7)."""

    alpha: Fraction = 0.7
    """Exponent of the priorities; 0 is uniform replay."""
    beta: Fraction = 0.3
    """Exponent of the importance weights at the start."""
    beta_growth: Annotated[float, Field(ge=0)] = 0.03
    beta_growth_every: Positive = 3000
    """Updates between growths of beta, up to 1."""


class CriticConfig(Section):
    """Latent Q-learning (section 4.2, Algorithm 1, A.2.3, Table 7)."""

    hidden: Widths = (256, 256, 256, 32)
    fourier_octaves: NonNegative = 0
    """Frequencies (1, 2, 4, ... per standard deviation) of the sines and cosines that the networks
    see of `fourier_indices`, for values that change across a thin wall; 0: none, the paper's."""
    fourier_indices: tuple[NonNegative, ...] = ()
    """Entries of the flat state that get them: coordinates in space."""
    learning_rate: PositiveFloat = 5e-4
    batch_size: Positive = 128
    updates: Positive = 200_000
    target_update_rate: Rate = 0.005
    """Share of the online weights in target <- (1 - rate) target + rate online; the paper writes
    rho = 0.995 for 1 - rate."""
    reward_scale: PositiveFloat = 1.0
    """Rewards are multiplied by it inside the learner; published values are divided by it again."""
    replay: ReplayConfig = ReplayConfig()
    windows: Positive | None = None
    """Windows in the replay buffer, drawn at random from the training windows; None: all."""
    reward_windows: Fraction = 0.0
    """Share of `windows` drawn from those with a reward in them (all of those, where they are
    fewer); the rest come from the others. Updates are not weighted back."""
    candidates: Positive = 500
    """n, latents per next state in the target's max."""
    candidate_source: Literal["online", "cache"] = "online"
    """`online`: drawn anew for every update (Algorithm 1); `cache`: drawn once per next state and
    reused."""
    cached_candidates: Positive = 500
    """Latents kept per next state with `cache`, of which every update uses `candidates`, drawn at
    random."""
    calls_in_flight: Positive = 4
    """Sample calls under way at once; batches are drawn that many updates ahead."""
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _options_are_complete(self) -> CriticConfig:
        if self.fourier_octaves and not self.fourier_indices:
            raise ValueError(
                "fourier_indices is empty, expected entries of the state, since fourier_octaves "
                f"is {self.fourier_octaves}"
            )
        if self.reward_windows and self.windows is None:
            raise ValueError(
                f"windows is null, expected a number, since reward_windows is {self.reward_windows}"
            )
        return self

    @model_validator(mode="after")
    def _cache_holds_enough(self) -> CriticConfig:
        if self.candidate_source == "cache" and self.candidates > self.cached_candidates:
            raise ValueError(
                f"candidates is {self.candidates}, expected at most cached_candidates "
                f"({self.cached_candidates})"
            )
        return self
