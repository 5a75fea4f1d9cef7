"""A latent prior of your own: a mixture density network (Bishop 1994), K Gaussians for a state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn import functional

from ldcq.config import PriorConfig
from ldcq.config.section import Positive, Widths
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Condition, OnePassPrior, PriorOptions


class MixtureOptions(PriorOptions):
    """Its hyperparameters: `prior.options.mixture` of a configuration."""

    components: Positive = 8
    """K."""
    hidden: Widths = (256, 256)


class MixturePrior(OnePassPrior):
    """sum_k w_k(s) N(z; mu_k(s), diag sigma_k(s)^2) over standardised latents."""

    Options = MixtureOptions
    options: MixtureOptions
    takes_goals = True

    def __init__(self, dimensions: Dimensions, config: PriorConfig) -> None:
        super().__init__(dimensions, config)
        inputs = dimensions.state + dimensions.goal
        outputs = self.options.components * (1 + 2 * dimensions.latent)
        self.network = mlp([inputs, *self.options.hidden, outputs], nn.GELU, layer_norm=True)

    def condition(self, inputs: Tensor) -> Condition:
        """Logits (N, K), means and standard deviations (N, K, Z)."""
        shape = (len(inputs), self.options.components, 1 + 2 * self.dimensions.latent)
        outputs = self.network(inputs).view(shape)
        means, raw_stds = outputs[:, :, 1:].chunk(2, dim=2)
        return outputs[:, :, 0], means, functional.softplus(raw_stds) + 1e-3

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """-log p(z | s) of z ~ q, averaged over the batch."""
        logits, means, stds = self.condition(self.inputs(batch.states, batch.goals))
        mixture = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means, stds), 1))
        return -mixture.log_prob(self.latent_normaliser(batch.draw(generator))).mean()

    def draw(self, condition: Condition, generator: torch.Generator, temperature: float) -> Tensor:
        """One latent for each row of the condition; the temperature narrows each Gaussian."""
        logits, means, stds = condition
        chosen = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).unsqueeze(2)
        mean, std = (each.take_along_dim(chosen, dim=1).squeeze(1) for each in (means, stds))
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + temperature * std * noise
