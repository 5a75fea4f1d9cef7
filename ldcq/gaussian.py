"""The conditional Gaussian prior of BCQ-H (section 5.3): N(mu(s), diag sigma(s)^2), by maximum
likelihood; with goals N(mu(s, g), diag sigma(s, g)^2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self, cast

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional

from ldcq.config import GaussianConfig, PriorConfig
from ldcq.nn.mlp import mlp
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights
from ldcq.prior import Batch, Condition, OnePassPrior, Statistics

if TYPE_CHECKING:
    from common.store import Artifact


class GaussianPrior(OnePassPrior):
    """N(mu(s), sigma(s)) over standardised latents: the baseline that cannot tell modes apart.

    Args:
        config: Widths of the network and floor of sigma.
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).
        goal_normaliser: Of raw goals (G,); None: a prior without goals.
    """

    takes_goals: ClassVar[bool] = True

    def __init__(
        self,
        config: GaussianConfig,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
        goal_normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.state_normaliser = state_normaliser
        self.latent_normaliser = latent_normaliser
        self.goal_normaliser = goal_normaliser
        goals = 0 if goal_normaliser is None else len(goal_normaliser.mean)
        inputs, outputs = len(state_normaliser.mean) + goals, 2 * len(latent_normaliser.mean)
        sizes = [inputs, *config.hidden, outputs]
        self.network = mlp(sizes, nn.GELU, layer_norm=True)

    @classmethod
    def create(cls, config: PriorConfig, statistics: Statistics) -> Self:
        """A new model. `prior.sampling` is about diffusion models and not looked at."""
        return cls(
            config.gaussian,
            *statistics.normalisers(),
            statistics.goal_normaliser(),
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model as published."""
        meta = artifact.meta
        goals = meta.dimensions.get("goal", 0)
        prior = cls(
            GaussianConfig.model_validate(meta.details["gaussian"]),
            Normaliser.identity(meta.dimensions["state"]),
            Normaliser.identity(meta.dimensions["latent"]),
            Normaliser.identity(goals) if goals else None,
        )
        load_weights(prior, artifact.tensors)
        return prior

    def details(self) -> dict[str, JsonValue]:
        """The network's configuration."""
        return {"gaussian": self.config.model_dump(mode="json")}

    def forward(self, states: Tensor, goals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of standardised latents.

        Args:
            states: Raw states, (B, S).
            goals: Raw goals, (B, G), of a prior with goals.

        Returns:
            mu(s) and sigma(s), or mu(s, g) and sigma(s, g), each (B, Z).
        """
        inputs = self.state_normaliser(states)
        if self.goal_normaliser is not None:
            assert goals is not None, "this prior has goals"
            inputs = torch.cat([inputs, self.goal_normaliser(goals)], dim=1)
        mean, raw_std = self.network(inputs).chunk(2, dim=1)
        return mean, functional.softplus(raw_std) + self.config.min_std

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """-log N(z; mu(s), sigma(s)) of z ~ q, per latent dimension, a scalar."""
        latents = self.latent_normaliser(batch.draw(generator))
        mean, std = self(batch.states, batch.goals)
        errors = ((latents - mean) / std).square()
        return cast(Tensor, (0.5 * errors + std.log() + 0.5 * math.log(2 * math.pi)).mean())

    def validate(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """`loss`: the negative log-likelihood of held-out pairs, a scalar."""
        return {"loss": self.loss(batch, generator)}

    def condition(self, states: Tensor, goals: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mu and sigma of every state, (N, Z) each; see `OnePassPrior`."""
        mean, std = self(states, goals)
        return mean, std

    def draw(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Z = mu(s) + sigma(s) eps; see `OnePassPrior`."""
        mean, std = condition
        noise = torch.empty_like(mean).normal_(generator=generator)
        return self.latent_normaliser.inverse(mean + std * noise)
