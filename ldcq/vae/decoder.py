"""The low-level policy pi(a | s, z): the decoder of the VAE (sections 4.1 and A.2.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.nn.distributions import Gaussian, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions


class Decoder(nn.Module, ABC):
    """pi(a | s, z): the caller standardises states, actions are in the environment's units."""

    def bound(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Takes over the range of actions: none outside is chosen, and in units of half of it the
        network thinks.

        Args:
            low: Least, A values; not looked at where actions are discrete.
            high: Greatest, A values.

        Raises:
            ValueError: They are not A values each.
        """

    @abstractmethod
    def features(self, actions: Tensor) -> Tensor:
        """What a network sees of actions, whatever their unit: their place in the range, from -1 to
        1, (..., A); one-hot (..., choices) where they are discrete.

        Args:
            actions: As of `log_prob`.
        """

    @abstractmethod
    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Log-likelihood of actions.

        Args:
            states: Standardised, shape (..., S).
            latents: Shape (..., Z).
            actions: Shape (..., A); indices (..., 1) where actions are discrete.

        Returns:
            log pi(a | s, z), shape (...); the density is that of `features`.
        """

    @abstractmethod
    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Actions inside the action space.

        Args:
            states: Standardised, shape (E, S).
            latents: Shape (E, Z).
            generator: Draws a sample of the policy; None takes its mode, dimension by dimension.

        Returns:
            Shape (E, A); int64 indices (E, 1) where actions are discrete.
        """


class _Element(nn.Module):
    """The network of one action dimension: 2 layers, then two heads, of mean and std, of 2 each."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            # The hidden layers of both heads as one product, which reads the features once.
            nn.Linear(hidden, 2 * hidden),
            nn.ReLU(inplace=True),
        )
        self.mean, self.std = nn.Linear(hidden, 1), nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (R, inputs) to the mean and the raw std, (R, 2)."""
        weight = torch.block_diag(self.mean.weight, self.std.weight)  # type: ignore[no-untyped-call]
        bias = torch.cat([self.mean.bias, self.std.bias])
        return functional.linear(self.trunk(inputs), weight, bias)


class GaussianDecoder(Decoder):
    """What both Gaussian decoders share: the range of actions, and the floor of their deviations.

    Args:
        action_dim: A.
        min_std: Floor of the standard deviation.

    Attributes:
        low: Least action, (A,); -inf before `bound`, and the network thinks in actions as they are.
        high: Greatest action, (A,).
    """

    low: Tensor
    high: Tensor

    def __init__(self, action_dim: int, min_std: float) -> None:
        super().__init__()
        self._min_std = min_std
        self.register_buffer("low", torch.full((action_dim,), -torch.inf))
        self.register_buffer("high", torch.full((action_dim,), torch.inf))

    def bound(self, low: Sequence[float], high: Sequence[float]) -> None:
        """See `Decoder.bound`."""
        action_dim = len(self.low)
        if not len(low) == len(high) == action_dim:
            raise ValueError(
                f"low, high: got {len(low)} and {len(high)} values, expected {action_dim}"
            )
        self.low.copy_(torch.tensor(low))
        self.high.copy_(torch.tensor(high))

    def features(self, actions: Tensor) -> Tensor:
        """See `Decoder.features`."""
        centre, half = self._scale()
        return (actions - centre) / half

    @abstractmethod
    def distribution(self, states: Tensor, latents: Tensor, features: Tensor) -> Gaussian:
        """Every element's distribution, given the elements before it where there is a chain.

        Args:
            states: Standardised, shape (R, S).
            latents: Shape (R, Z).
            features: Of the actions, shape (R, A).

        Returns:
            Mean and std of each element of `features`, shape (R, A).
        """

    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Sum over the elements of their (conditional) log densities, shape (...)."""
        rows, features = actions.shape[:-1], self.features(actions.flatten(0, -2))
        gaussian = self.distribution(states.flatten(0, -2), latents.flatten(0, -2), features)
        return log_density(features, gaussian).sum(dim=-1).view(rows)

    def _actions(self, features: Tensor) -> Tensor:
        """In the environment's units; clamped, as the way there and back rounds."""
        centre, half = self._scale()
        return (centre + half * features).clamp(self.low, self.high)

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Centre and half of the range, (A,) each."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        known = half.isfinite()
        return centre.where(known, 0.0), half.where(known & (half > 0), 1.0)


class AutoregressiveGaussianDecoder(GaussianDecoder):
    """One network per action dimension, each seeing the elements before its own (A.2.1, EMAQ).

    They are evaluated one after the other: stacked into batched products they were slower for 2, 8
    and 28 dimensions alike.

    Args:
        state_dim: S.
        latent_dim: Z.
        action_dim: A.
        hidden: Width of the hidden layers.
        min_std: Floor of the standard deviation.
    """

    def __init__(
        self,
        state_dim: int,
        latent_dim: int,
        action_dim: int,
        hidden: int,
        min_std: float,
    ) -> None:
        super().__init__(action_dim, min_std)
        self._context = state_dim + latent_dim
        self.elements = nn.ModuleList(
            _Element(self._context + index, hidden) for index in range(action_dim)
        )

    def distribution(self, states: Tensor, latents: Tensor, features: Tensor) -> Gaussian:
        """Given the elements before each (teacher forcing); see `GaussianDecoder.distribution`."""
        inputs = torch.cat([states, latents, features], dim=-1)
        outputs = [
            element(inputs[:, : self._context + index])
            for index, element in enumerate(self.elements)
        ]
        mean, raw_std = torch.stack(outputs, dim=1).unbind(dim=-1)
        return Gaussian.of(mean, raw_std, self._min_std)

    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Element by element, each clipped before the next network sees it, as in training; states
        (E, S) and latents (E, Z) to actions (E, A).
        """
        empty = states.new_zeros(len(states), len(self.elements))
        noise = empty if generator is None else _noise_like(empty, generator)
        inputs = torch.cat([states, latents, empty], dim=-1)
        low, high = self.features(self.low), self.features(self.high)
        for index, element in enumerate(self.elements):
            own = self._context + index
            mean, raw_std = element(inputs[:, :own]).unbind(dim=-1)
            drawn = Gaussian.of(mean, raw_std, self._min_std).sample(noise[:, index])
            inputs[:, own] = drawn.clamp(low[index], high[index])
        return self._actions(inputs[:, self._context :])


class IndependentGaussianDecoder(GaussianDecoder):
    """One network for all action dimensions, which are independent given s and z: about A times
    cheaper than a network for each, and enough where the noise on actions is independent.

    Its mean ends in tanh where actions have a range, as saturated actions are frequent.

    Args:
        state_dim: S.
        latent_dim: Z.
        action_dim: A.
        hidden: Width of the three hidden layers.
        min_std: Floor of the standard deviation.
    """

    def __init__(
        self, state_dim: int, latent_dim: int, action_dim: int, hidden: int, min_std: float
    ) -> None:
        super().__init__(action_dim, min_std)
        sizes = [state_dim + latent_dim, hidden, hidden, hidden, 2 * action_dim]
        self.network = mlp(sizes, nn.GELU, layer_norm=True)

    def distribution(self, states: Tensor, latents: Tensor, features: Tensor) -> Gaussian:
        """See `GaussianDecoder.distribution`; `features` decide nothing."""
        del features
        return self._gaussian(states, latents)

    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `Decoder.act`."""
        mean, std = self._gaussian(states, latents)
        noise = torch.zeros_like(mean) if generator is None else _noise_like(mean, generator)
        return self._actions(mean + std * noise)

    def _gaussian(self, states: Tensor, latents: Tensor) -> Gaussian:
        mean, raw_std = self.network(torch.cat([states, latents], dim=-1)).chunk(2, dim=-1)
        ranged = (self.high - self.low).isfinite()
        return Gaussian.of(mean.tanh().where(ranged, mean), raw_std, self._min_std)


GAUSSIAN = {
    "autoregressive": AutoregressiveGaussianDecoder,
    "independent": IndependentGaussianDecoder,
}
"""By `vae.decoder`."""


class CategoricalDecoder(Decoder):
    """A categorical policy for a discrete action space (section 4.1): 2 layers, a head of 2.

    Args:
        state_dim: S.
        latent_dim: Z.
        choices: The number of actions.
        hidden: Width of the hidden layers.
    """

    def __init__(self, state_dim: int, latent_dim: int, choices: int, hidden: int) -> None:
        super().__init__()
        self._choices = choices
        self.logits = mlp([state_dim + latent_dim, hidden, hidden, hidden, choices])

    def features(self, actions: Tensor) -> Tensor:
        """See `Decoder.features`."""
        return functional.one_hot(actions.squeeze(-1), self._choices).float()

    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of the indices, shape (...)."""
        logits = self.logits(torch.cat([states, latents], dim=-1))
        chosen = logits.log_softmax(dim=-1).gather(-1, actions.long())
        return cast(Tensor, chosen.squeeze(-1))

    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Indices (E, 1), int64, for states (E, S) and latents (E, Z)."""
        logits = self.logits(torch.cat([states, latents], dim=-1))
        if generator is None:
            return cast(Tensor, logits.argmax(dim=-1, keepdim=True))
        probabilities = logits.softmax(dim=-1).to(generator.device)
        return torch.multinomial(probabilities, 1, generator=generator).to(states.device)


def make_decoder(dimensions: Dimensions, kind: str, hidden: int, min_std: float) -> Decoder:
    """The decoder for an action space: categorical where it is discrete, else Gaussian.

    Args:
        dimensions: Of states, latents and actions.
        kind: Of a Gaussian one, as `vae.decoder`.
        hidden: Width of the hidden layers.
        min_std: Floor of the standard deviation, in halves of the actions' range.
    """
    size = dimensions
    if size.discrete_actions:
        return CategoricalDecoder(size.state, size.latent, size.discrete_actions, hidden)
    gaussian = GAUSSIAN[kind]
    return gaussian(size.state, size.latent, size.action, hidden, min_std)


def _noise_like(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(values.shape, generator=generator, device=generator.device).to(values.device)
