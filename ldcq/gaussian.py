"""The conditional Gaussian prior of BCQ-H (section 5.3): N(mu(s), diag sigma(s)^2), by maximum
likelihood; with goals N(mu(s, g), diag sigma(s, g)^2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ldcq.config import PriorConfig, SamplingConfig
from ldcq.config.section import Widths
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Description, OptionError, Prior, PriorOptions
from ldcq.randomness import block_generator, block_ranges

DEFAULTS = SamplingConfig(temperature=1.0)
"""All it has to say about sampling: there are no steps to choose."""


class GaussianOptions(PriorOptions):
    """`prior.options.gaussian`."""

    hidden: Widths = (512, 512, 256)
    """Widths of the network; the default has about as many parameters as the default denoiser."""
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    """Floor of sigma, in standardised latents."""


class GaussianPrior(Prior):
    """N(mu(s), sigma(s)) over standardised latents: the baseline that cannot tell modes apart.

    It does not look at `prior.sampling`, which is about diffusion models.
    """

    Options = GaussianOptions
    options: GaussianOptions
    takes_goals: ClassVar[bool] = True

    def __init__(self, dimensions: Dimensions, config: PriorConfig) -> None:
        super().__init__(dimensions, config)
        size = dimensions
        sizes = [size.state + size.goal, *self.options.hidden, 2 * size.latent]
        self.network = mlp(sizes, nn.GELU, layer_norm=True)

    def forward(self, states: Tensor, goals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of standardised latents.

        Args:
            states: Raw states, (B, S).
            goals: Raw goals, (B, G), of a prior with goals.

        Returns:
            mu(s) and sigma(s), or mu(s, g) and sigma(s, g), each (B, Z).
        """
        mean, raw_std = self.network(self.condition(states, goals)).chunk(2, dim=1)
        return mean, functional.softplus(raw_std) + self.options.min_std

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """-log N(z; mu(s), sigma(s)) of z ~ q, per latent dimension, a scalar."""
        latents = self.latent_normaliser(batch.draw(generator))
        mean, std = self(batch.states, batch.goals)
        errors = ((latents - mean) / std).square()
        return cast(Tensor, (0.5 * errors + std.log() + 0.5 * math.log(2 * math.pi)).mean())

    def describe(self) -> Description:
        """No steps, no solvers."""
        return Description(training_steps=0, solvers=(), defaults=DEFAULTS)

    def sampler(self) -> GaussianSampler:
        """The model as it is now."""
        return GaussianSampler(copy.deepcopy(self))


class GaussianSampler:
    """A Gaussian prior with frozen weights."""

    def __init__(self, prior: GaussianPrior) -> None:
        self._prior = prior

    def check(self, options: SamplingConfig) -> None:
        """Raises OptionError for anything but this model's own defaults, which are the only way it
        samples.
        """
        for field, given in options.model_dump(exclude_none=True).items():
            default = getattr(DEFAULTS, field)
            if given != default:
                only = "nothing" if default is None else f"nothing or {default}"
                raise OptionError(field, given, f"{only}: a Gaussian prior has no such choice")

    def steps(self, options: SamplingConfig) -> int:  # noqa: ARG002
        """One pass."""
        return 1

    def blocks(
        self,
        states: Tensor,
        candidates: int,
        options: SamplingConfig,
        seed: int,
        goals: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Z = mu(s) + sigma(s) eps. See `ldcq.prior.Sampler`."""
        self.check(options)
        mean, std = self._prior(states, goals)
        for block, (start, end) in enumerate(block_ranges(len(states) * candidates)):
            state = torch.arange(start, end, device=states.device) // candidates
            noise = torch.empty(end - start, mean.shape[1], device=states.device)
            noise.normal_(generator=block_generator(seed, block, states.device))
            latents = mean.index_select(0, state) + std.index_select(0, state) * noise
            yield self._prior.latent_normaliser.inverse(latents)
