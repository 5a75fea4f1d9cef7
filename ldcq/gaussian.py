"""The conditional Gaussian prior of BCQ-H (section 5.3): N(mu(s), diag sigma(s)^2), by maximum
likelihood; with goals N(mu(s, g), diag sigma(s, g)^2).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ldcq.config import PriorConfig
from ldcq.config.section import Octaves, Widths
from ldcq.nn.distributions import Gaussian, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Condition, OnePassPrior, PriorOptions


class GaussianOptions(PriorOptions):
    """`prior.options.gaussian`."""

    hidden: Widths = (512, 512, 256)
    """Widths of the network; the default has about as many parameters as the default denoiser."""
    octaves: Octaves = 0
    """As those of the diffusion prior."""
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    """Floor of sigma, in standardised latents."""


class GaussianPrior(OnePassPrior):
    """N(mu(s), sigma(s)) over standardised latents: the baseline that cannot tell modes apart.

    Of `prior.sampling` it takes the temperature; the rest is about denoising.
    """

    Options = GaussianOptions
    options: GaussianOptions
    takes_goals: ClassVar[bool] = True

    def __init__(self, dimensions: Dimensions, config: PriorConfig) -> None:
        super().__init__(dimensions, config)
        size = dimensions
        sizes = [size.state + size.goal, *self.options.hidden, 2 * size.latent]
        self.network = mlp(sizes, nn.GELU, layer_norm=True, octaves=self.options.octaves)

    def condition(self, inputs: Tensor) -> Gaussian:
        """mu(s) and sigma(s), or mu(s, g) and sigma(s, g), of standardised latents, each (B, Z)."""
        mean, raw_std = self.network(inputs).chunk(2, dim=1)
        return Gaussian.of(mean, raw_std, self.options.min_std)

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """-log N(z; mu(s), sigma(s)) of z ~ q, per latent dimension, a scalar."""
        latents = self.latent_normaliser(batch.draw(generator))
        return -log_density(latents, self.condition(self.inputs(batch.states, batch.goals))).mean()

    def draw(self, condition: Condition, generator: torch.Generator, temperature: float) -> Tensor:
        """Z = mu + temperature sigma eps; see `OnePassPrior`."""
        mean, std = condition
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + temperature * std * noise
