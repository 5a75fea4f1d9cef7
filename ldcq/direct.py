"""Priors that are sampled in one pass: the network gives a distribution, which is drawn from."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from ldcq.config import SamplingConfig
from ldcq.prior import Description, OptionError, Prior
from ldcq.randomness import block_generator, block_ranges

DEFAULTS = SamplingConfig(temperature=1.0)
"""All there is to say about sampling: there are no steps to choose."""


class DirectPrior(Prior):
    """A prior whose network gives the parameters of a distribution over standardised latents.

    Give it a `loss`, a `forward` and a `draw`.
    """

    @abstractmethod
    def forward(self, states: Tensor, goals: Tensor | None = None) -> tuple[Tensor, ...]:
        """The parameters of p(z | s) or p(z | s, g).

        Args:
            states: Raw states, (N, S).
            goals: Raw goals, (N, G), of a prior with goals.

        Returns:
            Tensors with a row for each state, (N, ...).
        """

    @abstractmethod
    def draw(self, generator: torch.Generator, *parameters: Tensor) -> Tensor:
        """Standardised latents, one for each row.

        Args:
            generator: Source of all that is drawn, on the device of the parameters.
            parameters: Rows of what `forward` returns, (R, ...) each.

        Returns:
            Shape (R, Z).
        """

    def describe(self) -> Description:
        """No steps, no solvers."""
        return Description(training_steps=0, solvers=(), defaults=DEFAULTS)

    def sampler(self) -> DirectSampler:
        """The model as it is now."""
        return DirectSampler(copy.deepcopy(self))


class DirectSampler:
    """A direct prior with frozen weights. See `ldcq.prior.Sampler`."""

    def __init__(self, prior: DirectPrior) -> None:
        self._prior = prior

    def check(self, options: SamplingConfig) -> None:
        """Raises OptionError for anything but `DEFAULTS`, the only way it samples."""
        for field, given in options.model_dump(exclude_none=True).items():
            default = getattr(DEFAULTS, field)
            if given != default:
                only = "nothing" if default is None else f"nothing or {default}"
                raise OptionError(field, given, f"{only}: this prior is sampled in one pass")

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
        """The network sees every state once; every block draws from a generator of its own."""
        self.check(options)
        parameters = self._prior(states, goals)
        for block, (start, end) in enumerate(block_ranges(len(states) * candidates)):
            state = torch.arange(start, end, device=states.device) // candidates
            rows = (parameter.index_select(0, state) for parameter in parameters)
            latents = self._prior.draw(block_generator(seed, block, states.device), *rows)
            yield self._prior.latent_normaliser.inverse(latents)
