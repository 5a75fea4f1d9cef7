"""The conditional Gaussian prior of BCQ-H (section 5.3): N(mu(s), diag sigma(s)^2), by maximum
likelihood; with goals N(mu(s, g), diag sigma(s, g)^2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Self, cast

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional

from ldcq.config import GaussianConfig, PriorConfig, SamplingConfig
from ldcq.nn.mlp import mlp
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights
from ldcq.prior import Batch, Description, OptionError, Prior, Statistics
from ldcq.randomness import block_generator, block_ranges

if TYPE_CHECKING:
    from common.store import Artifact

DEFAULTS = SamplingConfig(temperature=1.0)
"""All it has to say about sampling: there are no steps to choose."""


class GaussianPrior(Prior):
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
