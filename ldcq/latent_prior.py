"""The latent prior p(z | s) as everything else sees it: a `Draw` goes in, latents come out.

The model in this process and the client of a prior service are both a `LatentPrior`. NumPy only: a
client needs no torch.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ldcq.config import SamplingConfig

MAX_ROWS = 1 << 18
"""Most latents of one draw: four times the paper's 128 states x 500 candidates."""


class OptionError(ValueError):
    """A sampling option that a prior does not take.

    Attributes:
        field: The option's name.
        given: What was asked for.
        expected: What would be accepted.
    """

    def __init__(self, field: str, given: object, expected: str) -> None:
        super().__init__(f"{field} is {given!r}, expected {expected}")
        self.field, self.given, self.expected = field, given, expected


@dataclass(frozen=True)
class Draw:
    """What is asked of a prior: n latents z ~ p(z | s) for each state.

    Attributes:
        states: Raw states, (N, S).
        candidates: n.
        options: How to sample; what is None is left to the prior.
        seed: Fixes every random number, 0 to 2^64 - 1.
        goals: Raw goals, (N, G), for a prior with goals and for no other.
    """

    states: NDArray[np.float32]
    candidates: int
    options: SamplingConfig
    seed: int
    goals: NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """N x n."""
        return len(self.states) * self.candidates


@dataclass(frozen=True)
class Samples:
    """What a draw gives.

    Attributes:
        latents: Shape (N, n, Z), float32, in the VAE's latent space.
        model_version: The model that made them; empty for one that has not been published.
        queue_seconds: Seconds the draw waited at a server.
        compute_seconds: Seconds spent sampling.
    """

    latents: NDArray[np.float32]
    model_version: str = ""
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True)
class Description:
    """What a prior says of itself.

    Attributes:
        state_dim: S.
        latent_dim: Z.
        goal_dim: G; 0 for a prior without goals.
        training_steps: T; 0 for a prior without denoising steps.
        solvers: Names that `SamplingConfig.solver` may have.
        defaults: What options that are left out become; None where the prior has no such option.
        max_rows: Most latents of one draw.
        implementation: The name it is registered under.
        model_version: The published model; empty for one that has not been published.
        vae_version: The VAE whose latents it draws.
    """

    state_dim: int
    latent_dim: int
    goal_dim: int
    training_steps: int
    solvers: tuple[str, ...]
    defaults: SamplingConfig
    max_rows: int = MAX_ROWS
    implementation: str = ""
    model_version: str = ""
    vae_version: str = ""

    def taken(self, options: SamplingConfig) -> SamplingConfig:
        """The options as far as they concern this prior.

        Priors are swapped under one configuration, so one without solvers is asked for those
        options only that its defaults name.
        """
        if self.solvers:
            return options
        known = self.defaults.model_dump(exclude_none=True)
        return SamplingConfig(**options.model_dump(include=set(known)))


class LatentPrior(Protocol):
    """p(z | s), or p(z | s, g) with goals: in this process, or behind gRPC."""

    def describe(self) -> Description:
        """What the prior is and what it takes."""
        ...

    def sample(self, draw: Draw) -> Samples:
        """Draws latents; the same draw gives the same latents.

        Raises:
            OptionError: The prior does not take one of the options.
        """
        ...

    def sample_async(self, draw: Draw) -> Future[Samples]:
        """Like `sample`, but returns at once; the future raises what `sample` would."""
        ...
