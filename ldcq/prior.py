"""The protocol of a prior: what an implementation provides.

The trainer and the server reach it through this protocol only and never ask which one it is; it is
found by name (`ldcq.registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config, ConfigError, PriorConfig, SamplingConfig, validated
from ldcq.config.section import Section
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser


class OptionError(ValueError):
    """A sampling option this model does not take.

    Attributes:
        field: The option's name.
        given: What was asked for.
        expected: What would be accepted.
    """

    def __init__(self, field: str, given: object, expected: str) -> None:
        super().__init__(f"{field} is {given!r}, expected {expected}")
        self.field, self.given, self.expected = field, given, expected


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of raw states (S,) and of latents z ~ q (Z,), over the training
    windows.

    Attributes:
        goal_indices: Entries of the state that a goal prescribes, (G,); empty for a prior without
            goals.
    """

    state_mean: NDArray[np.float32]
    state_std: NDArray[np.float32]
    latent_mean: NDArray[np.float32]
    latent_std: NDArray[np.float32]
    goal_indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Training pairs: raw states (B, S), and mean and standard deviation of q(z | tau), (B, Z); for
    a prior with goals raw goals (B, G) as well.

    Where several ranks share a batch of `whole` rows, these are the rows `share` of it.
    """

    states: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    goals: Tensor | None = None
    _: KW_ONLY
    share: slice | None = None
    whole: int | None = None

    def random(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Random numbers of these pairs, the same whichever ranks share the batch.

        Args:
            draw: Given a number of rows, draws them on the CPU.

        Returns:
            One row for each pair, on its device.
        """
        if self.share is None or self.whole is None:
            return draw(len(self.states)).to(self.states.device)
        return draw(self.whole)[self.share].to(self.states.device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """z_0 ~ q(z | tau), drawn anew at every call, (B, Z)."""
        width = self.latent_mean.shape[1]
        noise = self.random(lambda rows: torch.randn(rows, width, generator=generator))
        return self.latent_mean + self.latent_std * noise


@dataclass(frozen=True)
class Description:
    """What a model's sampler takes.

    Attributes:
        training_steps: T, 0 for a model without.
        solvers: Names that `SamplingConfig.solver` may have.
        defaults: What options left out become; None where the model has no such option.
    """

    training_steps: int
    solvers: tuple[str, ...]
    defaults: SamplingConfig


class Sampler(Protocol):
    """A model with frozen weights, ready to draw from.

    The reply depends on the arguments only: not on calls before it or beside it. Blocks of one call
    may be computed with other calls' blocks between them.
    """

    def check(self, options: SamplingConfig) -> None:
        """Raises OptionError for options this model does not take."""
        ...

    def steps(self, options: SamplingConfig) -> int:
        """Passes over a block of rows that these options mean, at least 1."""
        ...

    def blocks(
        self,
        states: Tensor,
        candidates: int,
        options: SamplingConfig,
        seed: int,
        goals: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Draws `candidates` latents for each state.

        Args:
            states: Raw states, (N, S).
            candidates: n.
            options: Choices; those left out take the model's defaults.
            seed: Fixes every random number, 0 to 2^64 - 1.
            goals: Raw goals, (N, G), given to a model with goals and to no other.

        Yields:
            Consecutive rows of the raw latents (N n, Z), the candidates of a state side by side.

        Raises:
            OptionError: An option is not accepted.
        """
        ...


@dataclass(frozen=True)
class Draw:
    """What one call asks a sampler for: raw states (N, S), n candidates of each, the seed, and raw
    goals (N, G) where the model has goals.
    """

    states: Tensor
    candidates: int
    seed: int
    goals: Tensor | None = None

    @property
    def rows(self) -> int:
        """N x n."""
        return len(self.states) * self.candidates


@runtime_checkable
class JoiningSampler(Sampler, Protocol):
    """A sampler that can compute several small calls as one block.

    The server joins calls only where it has seen, on this machine and with this model, that their
    bits stay the same (`services.prior.model`); a sampler without this method is a sampler too.
    """

    def join(self, draws: Sequence[Draw], options: SamplingConfig) -> Tensor:
        """Several calls under the same options, computed together.

        Each gets what `blocks` yields for it alone, to the last bit: its noise is drawn from its
        own generator in its own shape, its states' part is computed in its own shape, and rows
        share nothing but the matrix products over all of them. Rows of such a product do not
        influence each other, and do not depend on their number from a few dozen on, which `blocks`
        and `join` pad to.

        Args:
            draws: At most `randomness.BLOCK_ROWS` rows together.
            options: Choices, as in `blocks`.

        Returns:
            The raw latents of all draws, one after the other, (rows, Z).
        """
        ...


class PriorOptions(Section):
    """Hyperparameters that one implementation alone has: `prior.options.<its name>`."""

    @classmethod
    def of(cls, config: PriorConfig) -> Self:
        """Those of the chosen implementation, to whose class these belong.

        Raises:
            ConfigError: A key is unknown or a value is impossible.
        """
        name = config.implementation
        return validated(cls, config.options.get(name, {}), at=f"prior.options.{name}")


class Prior(Model, ABC):
    """A trainable p(z | s): a model that holds everything that is trained, averaged and published.

    Args:
        dimensions: Of states and latents; `goal` is 0 for a prior without goals.
        config: The section `prior`. The model's own `config` has the options spelled out, and
            those of no other implementation.

    Attributes:
        Options: The type of its options.
        options: What it alone has to choose.
        takes_goals: Whether it can learn p(z | s, goal).
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).
        goal_normaliser: Of raw goals (G,); None: a prior without goals.
    """

    kind = "prior"
    Settings = PriorConfig
    config: PriorConfig
    Options: ClassVar[type[PriorOptions]] = PriorOptions
    options: PriorOptions
    takes_goals: ClassVar[bool] = False

    def __init__(self, dimensions: Dimensions, config: PriorConfig) -> None:
        options = self.Options.of(config)
        own = {config.implementation: options.model_dump(mode="json")}
        super().__init__(dimensions, config.model_copy(update={"options": own}))
        self.options = options
        self.state_normaliser = Normaliser.identity(dimensions.state)
        self.latent_normaliser = Normaliser.identity(dimensions.latent)
        self.goal_normaliser = Normaliser.identity(dimensions.goal) if dimensions.goal else None

    @classmethod
    def check(cls, config: Config) -> None:
        """Looks through a configuration for what this implementation cannot do.

        Args:
            config: With this implementation as `prior.implementation`.

        Raises:
            ConfigError: There is something; the message says where.
        """
        cls.Options.of(config.prior)
        if config.prior.goal_conditioned and not cls.takes_goals:
            raise ConfigError(
                "prior.goal_conditioned is true, but the prior "
                f"{config.prior.implementation!r} takes no goals; expected false, or another "
                "prior.implementation"
            )

    def fit_normalisers(self, statistics: Statistics) -> None:
        """Takes over the statistics of the training windows."""
        given = statistics
        self.state_normaliser = _normaliser(given.state_mean, given.state_std)
        self.latent_normaliser = _normaliser(given.latent_mean, given.latent_std)
        if given.goal_indices:
            # A goal is made of entries of a state.
            entries = list(given.goal_indices)
            self.goal_normaliser = _normaliser(given.state_mean[entries], given.state_std[entries])

    def condition(self, states: Tensor, goals: Tensor | None) -> Tensor:
        """What a prior is conditioned on, standardised.

        Args:
            states: Raw, shape (B, S).
            goals: Raw, shape (B, G), of a prior with goals.

        Returns:
            States and goals side by side, shape (B, S + G).
        """
        states = self.state_normaliser(states)
        if self.goal_normaliser is None:
            return states
        assert goals is not None, "this prior has goals"
        return torch.cat([states, self.goal_normaliser(goals)], dim=1)

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The training objective, a scalar, in a sample drawn by `generator`."""

    def validate(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Metrics by name over held-out pairs, `loss` among them."""
        return {"loss": self.loss(batch, generator)}

    @abstractmethod
    def describe(self) -> Description:
        """What the sampler takes."""

    @abstractmethod
    def sampler(self) -> Sampler:
        """The model as it is now, frozen."""


def _normaliser(mean: NDArray[np.float32], std: NDArray[np.float32]) -> Normaliser:
    return Normaliser(torch.from_numpy(mean), torch.from_numpy(std))


def sample(
    sampler: Sampler,
    states: Tensor,
    candidates: int,
    options: SamplingConfig,
    seed: int,
    goals: Tensor | None = None,
) -> Tensor:
    """All blocks of `Sampler.blocks` as one tensor (N, n, Z)."""
    with torch.inference_mode():
        rows = torch.cat(list(sampler.blocks(states, candidates, options, seed, goals)))
    return rows.reshape(len(states), candidates, -1)
