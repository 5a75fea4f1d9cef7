"""A prior that can be trained here: what an implementation provides.

The trainer and the server reach it through these classes only and never ask which one it is; it is
found by name (`ldcq.registry`).
"""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config, ConfigError, PriorConfig, SamplingConfig, validated
from ldcq.config.section import Section
from ldcq.latent_prior import Description, Draw, OptionError, Samples
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser
from ldcq.randomness import block_generator, block_ranges


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation (1 in a constant dimension) of raw states (S,) and of latents
    z ~ q (Z,), over the training windows.

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

    Where several ranks share a batch, these are one rank's rows.

    Attributes:
        numbers: Gives the random numbers of these pairs, for each call of `random`.
    """

    states: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    goals: Tensor | None = None
    _: KW_ONLY
    numbers: Callable[[Callable[[int], Tensor]], Tensor] | None = None

    def random(self, draw: Callable[[int], Tensor]) -> Tensor:
        """Random numbers of these pairs, the same whichever ranks share the batch.

        Args:
            draw: Given a number of rows, draws them on the CPU, from a loss's generator and nothing
                else that changes: at every update the same calls draw anew.

        Returns:
            One row for each pair, on its device.
        """
        if self.numbers is not None:
            return self.numbers(draw)
        return draw(len(self.states)).to(self.states.device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """z_0 ~ q(z | tau), drawn anew at every call, (B, Z)."""
        width = self.latent_mean.shape[1]
        noise = self.random(lambda rows: torch.randn(rows, width, generator=generator))
        return self.latent_mean + self.latent_std * noise


class Sampler(ABC):
    """A model with frozen weights, ready to draw from: a `LatentPrior` in this process.

    What is drawn depends on the draw only: not on draws before it or beside it. Blocks of one draw
    may be computed with other draws' blocks between them.
    """

    @abstractmethod
    def describe(self) -> Description:
        """What the prior is and what it takes."""

    @abstractmethod
    def resolve(self, options: SamplingConfig) -> SamplingConfig:
        """The options with nothing left open that this model knows.

        Raises:
            OptionError: The model does not take one of them.
        """

    @abstractmethod
    def passes(self, options: SamplingConfig) -> int:
        """Passes over a block of rows that resolved options mean, at least 1."""

    @abstractmethod
    def blocks(self, draw: Draw) -> Iterator[Tensor]:
        """Computes a draw whose options are resolved.

        Yields:
            Consecutive rows of the raw latents (N n, Z), the candidates of a state side by side.
        """

    def latents(self, draw: Draw) -> Tensor:
        """All blocks of a draw, on the model's device: raw latents (N, n, Z).

        Raises:
            OptionError: The model does not take one of the options.
        """
        options = self.resolve(self.describe().taken(draw.options))
        with torch.inference_mode():
            rows = list(self.blocks(replace(draw, options=options)))
        # Out here it makes a plain tensor, of which an update may compute gradients.
        return torch.cat(rows).reshape(len(draw.states), draw.candidates, -1)

    def sample(self, draw: Draw) -> Samples:
        """The latents of a draw in NumPy; see `LatentPrior.sample`."""
        start = time.perf_counter()
        latents = self.latents(draw).cpu().numpy()
        return Samples(latents, compute_seconds=time.perf_counter() - start)

    def sample_async(self, draw: Draw) -> Future[Samples]:
        """Draws before it returns; see `LatentPrior.sample_async`."""
        future: Future[Samples] = Future()
        try:
            future.set_result(self.sample(draw))
        except Exception as error:
            future.set_exception(error)
        return future


class JoiningSampler(Sampler):
    """A sampler that can compute several small draws as one block.

    The server joins draws only where it has seen, on this machine and with this model, that their
    bits stay the same (`services.prior.model`).
    """

    @abstractmethod
    def join(self, draws: Sequence[Draw]) -> Tensor:
        """Several draws under the same resolved options, computed together.

        Each gets what `blocks` yields for it alone, to the last bit: its noise is drawn from its
        own generator in its own shape, its states' part is computed in its own shape, and rows
        share nothing but the matrix products over all of them. Rows of such a product do not
        influence each other, and do not depend on their number from a few dozen on, which `blocks`
        and `join` pad to.

        Args:
            draws: At most `randomness.BLOCK_ROWS` rows together.

        Returns:
            The raw latents of all draws, one after the other, (rows, Z).
        """


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
    dimensions: Dimensions
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

    def inputs(self, states: Tensor, goals: Tensor | None) -> Tensor:
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
        """The training objective, in a sample drawn by `generator`.

        Args:
            batch: Training pairs.
            generator: Given to what `Batch.random` and `Batch.draw` are asked for, and to nothing
                else: on a GPU they alone draw anew at every update.

        Returns:
            A scalar.
        """

    def validate(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Metrics by name over held-out pairs, `loss` among them."""
        return {"loss": self.loss(batch, generator)}

    @abstractmethod
    def sampler(self) -> Sampler:
        """The model as it is now, frozen."""


Condition = tuple[Tensor, ...]
"""What a prior computes of states and goals before it draws, N rows each."""


class OnePassPrior(Prior):
    """A prior that draws in one pass: of a Gaussian, a mixture, whatever needs no steps."""

    @abstractmethod
    def condition(self, inputs: Tensor) -> Condition:
        """What all candidates of a state share, computed once per state, (N, ...) each.

        Args:
            inputs: Standardised states, and goals beside them, (N, S + G).
        """

    @abstractmethod
    def draw(self, condition: Condition, generator: torch.Generator, temperature: float) -> Tensor:
        """One standardised latent for every row of a condition, (R, Z), by `generator` alone.

        `temperature` scales the noise: 1 is the model's distribution, 0 has none.
        """

    def sampler(self) -> Sampler:
        """The model as it is now."""
        return _OnePassSampler(copy.deepcopy(self))


class _OnePassSampler(Sampler):
    """A `OnePassPrior` with frozen weights, block by block."""

    def __init__(self, prior: OnePassPrior) -> None:
        self._prior = prior
        self._device = prior.latent_normaliser.mean.device

    def describe(self) -> Description:
        """No solvers: the defaults name the temperature, the one option there is."""
        size = self._prior.dimensions
        return Description(
            state_dim=size.state,
            latent_dim=size.latent,
            goal_dim=size.goal,
            training_steps=0,
            solvers=(),
            defaults=self.resolve(SamplingConfig()),
        )

    def resolve(self, options: SamplingConfig) -> SamplingConfig:
        """The temperature: the one asked for, else the model's own, else 1.

        Raises:
            OptionError: It is no number from 0 on, or another option is given.
        """
        for field, given in options.model_dump(exclude_none=True).items():
            if field != "temperature":
                raise OptionError(field, given, "nothing: this prior takes a temperature alone")
        own = self._prior.config.sampling.temperature
        given = next((t for t in (options.temperature, own) if t is not None), 1.0)
        # In single precision, as it arrives over gRPC: here and there it gives the same latents.
        temperature = float(np.float32(given))
        if not 0 <= temperature < math.inf:
            raise OptionError("temperature", given, "a finite number, at least 0")
        return SamplingConfig(temperature=temperature)

    def passes(self, options: SamplingConfig) -> int:  # noqa: ARG002
        """One."""
        return 1

    def blocks(self, draw: Draw) -> Iterator[Tensor]:
        """Draws block by block; see `Sampler`."""
        states, goals = (
            None if rows is None else torch.tensor(rows, dtype=torch.float32, device=self._device)
            for rows in (draw.states, draw.goals)
        )
        temperature = draw.options.temperature
        assert states is not None
        assert temperature is not None, "the options are resolved"
        parts = self._prior.condition(self._prior.inputs(states, goals))
        for block, (start, end) in enumerate(block_ranges(draw.rows)):
            state = torch.arange(start, end, device=self._device) // draw.candidates
            rows = tuple(part.index_select(0, state) for part in parts)
            noise = block_generator(draw.seed, block, self._device)
            latents = self._prior.draw(rows, noise, temperature)
            yield self._prior.latent_normaliser.inverse(latents)


def _normaliser(mean: NDArray[np.float32], std: NDArray[np.float32]) -> Normaliser:
    return Normaliser(torch.from_numpy(mean), torch.from_numpy(std))
