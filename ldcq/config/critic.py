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
    networks: Annotated[int, Field(ge=2)] = 2
    """J, Q-networks, all regressed on the same targets."""
    deviations: Annotated[float, Field(ge=0)] | None = None
    """What the networks say together: their mean less so many standard deviations (a lower bound
    over an ensemble); null: the smallest (clipped double Q-learning, the paper's)."""
    bounds: tuple[float, float] | None = None
    """Least and greatest discounted return that the task allows: targets are clipped to them; null:
    they are not, the paper's."""
    bins: NonNegative = 0
    """Q is the mean of a distribution over so many bins between `bounds`, learned by classification
    (HL-Gauss, Farebrother et al. 2024); 0: a number, the paper's. Not with `dueling`."""
    dueling: bool = False
    """Q(s, z) = V(s) + A(s, z) (Wang et al. 2016): the networks learn advantages, in units of their
    spread, beside a network of the state alone; false: values as they are, the paper's. A target
    whose V is made of Q (`expectile_prior`, `expectile_data`) goes without: each would follow the
    other, in circles."""
    fourier_features: NonNegative = 0
    """Sines of the whole state, with learned frequencies, that every network sees beside it, for
    values that change across a thin wall; 0: none, the paper's."""
    target: Literal[
        "max_min", "argmax_min", "mean", "expectile_prior", "expectile_data", "expectile_return"
    ] = "max_min"
    """What s_{t+H} is worth. `ldcq.critic.targets` has the equations; `max_min` is the paper's."""
    expectile: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    """tau of the V-network, with a target `expectile_...`."""
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
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
    """n, latents per next state in the target's max; of a target without, in the validation."""
    candidate_source: Literal["online", "cache"] = "online"
    """`online`: drawn anew for every update (Algorithm 1); `cache`: drawn once per next state and
    reused, by a target that looks at candidates (not `expectile_data`, `expectile_return`)."""
    cached_candidates: Positive = 500
    """Latents kept per next state with `cache`, of which every update uses `candidates`, drawn at
    random."""
    calls_in_flight: Positive = 4
    """Sample calls under way at once; batches are drawn that many updates ahead."""
    sampling: SamplingConfig = SamplingConfig()

    @property
    def has_value_network(self) -> bool:
        """Whether a V-network gives the targets' value of s_{t+k}: any k <= H will do for it."""
        return self.target.startswith("expectile")

    @property
    def needs_candidates(self) -> bool:
        """Whether an update looks at latents of the prior."""
        return self.target not in ("expectile_data", "expectile_return")

    @model_validator(mode="after")
    def _options_are_complete(self) -> CriticConfig:
        if self.reward_windows and self.windows is None:
            raise ValueError(
                f"windows is null, expected a number, since reward_windows is {self.reward_windows}"
            )
        return self

    @model_validator(mode="after")
    def _bins_lie_between_bounds(self) -> CriticConfig:
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds is {[*self.bounds]}, expected two numbers, ascending")
        if self.bins == 1:
            raise ValueError("bins is 1, expected 0, or at least 2")
        if self.bins and self.bounds is None:
            raise ValueError(f"bounds is null, expected two numbers, since bins is {self.bins}")
        return self

    @model_validator(mode="after")
    def _dueling_has_a_base(self) -> CriticConfig:
        if self.dueling and self.target in ("expectile_prior", "expectile_data"):
            raise ValueError(
                f"dueling is true, expected false, since target {self.target!r} makes V of Q"
            )
        if self.dueling and self.bins:
            raise ValueError(f"dueling is true, expected false, since bins is {self.bins}")
        return self

    @model_validator(mode="after")
    def _cache_is_used_and_holds_enough(self) -> CriticConfig:
        if self.candidate_source == "cache" and not self.needs_candidates:
            raise ValueError(
                f"candidate_source is 'cache', expected 'online', since target {self.target!r} "
                "looks at no candidates"
            )
        if self.candidate_source == "cache" and self.candidates > self.cached_candidates:
            raise ValueError(
                f"candidates is {self.candidates}, expected at most cached_candidates "
                f"({self.cached_candidates})"
            )
        return self
