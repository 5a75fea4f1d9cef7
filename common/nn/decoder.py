"""The low-level policy pi(a | s, z): the decoder of the VAE (sections 4.1 and A.2.1)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.nn.gaussian import Gaussian, log_density
from common.nn.mlp import mlp


class Decoder(nn.Module, ABC):
    """pi(a | s, z): the caller standardises states, actions are in the environment's units."""

    @abstractmethod
    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Log-likelihood of actions.

        Args:
            states: Standardised, shape (..., S).
            latents: Shape (..., Z).
            actions: Shape (..., A); indices (..., 1) where actions are discrete.

        Returns:
            log pi(a | s, z), shape (...).
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


class AutoregressiveGaussianDecoder(Decoder):
    """One network per action dimension, each seeing the elements before its own (A.2.1, EMAQ).

    Each network is 2 layers followed by a mean and a std head of 2 layers each. The networks of
    all dimensions are stacked along the first axis of every weight, so that `log_prob`, which
    knows the whole action, evaluates them together.

    Args:
        state_dim: S.
        latent_dim: Z.
        action_dim: A.
        hidden: Width of the hidden layers.
        min_std: Floor of the standard deviation.
        action_low: Lower bounds, A values, -inf where there is none.
        action_high: Upper bounds, A values, inf where there is none.
    """

    low: Tensor
    high: Tensor
    _known: Tensor
    _block: Tensor

    def __init__(
        self,
        state_dim: int,
        latent_dim: int,
        action_dim: int,
        hidden: int,
        min_std: float,
        action_low: Sequence[float],
        action_high: Sequence[float],
    ) -> None:
        super().__init__()
        self._context, self._hidden, self._min_std = state_dim + latent_dim, hidden, min_std
        context = self._context
        # A dimension's first layer reads the state, the latent and the action elements before it.
        fan_in = torch.arange(context, context + action_dim).view(-1, 1)
        self.weight1 = _uniform((action_dim, context + action_dim, hidden), fan_in.unsqueeze(-1))
        self.bias1 = _uniform((action_dim, hidden), fan_in)
        self.weight2 = _uniform((action_dim, hidden, hidden), hidden)
        self.bias2 = _uniform((action_dim, 1, hidden), hidden)
        # Hidden layers of the mean head (first half) and the std head, then their outputs.
        self.head_weight1 = _uniform((action_dim, hidden, 2 * hidden), hidden)
        self.head_bias1 = _uniform((action_dim, 1, 2 * hidden), hidden)
        self.head_weight2 = _uniform((action_dim, 2, hidden), hidden)
        self.head_bias2 = _uniform((action_dim, 1, 2), hidden)
        order = torch.arange(action_dim)
        inputs = torch.cat([torch.full((context,), -1), order])
        self.register_buffer("_known", (inputs < order.view(-1, 1)).unsqueeze(-1), persistent=False)
        self.register_buffer(
            "_block", torch.eye(2).repeat_interleave(hidden, dim=0), persistent=False
        )
        self.register_buffer("low", torch.tensor(action_low, dtype=torch.float32), persistent=False)
        self.register_buffer(
            "high", torch.tensor(action_high, dtype=torch.float32), persistent=False
        )

    def distribution(self, states: Tensor, latents: Tensor, actions: Tensor) -> Gaussian:
        """Every element's distribution given the elements of `actions` before it (teacher forcing).

        Args:
            states: Standardised, shape (R, S).
            latents: Shape (R, Z).
            actions: Shape (R, A).

        Returns:
            Mean and std of each element, shape (R, A).
        """
        inputs = torch.cat([states, latents, actions], dim=-1)
        dimensions = len(self.weight1)
        # Masking weights rather than inputs keeps one copy of the inputs for all dimensions.
        weight = (self.weight1 * self._known).transpose(0, 1).flatten(1)
        features = torch.addmm(self.bias1.flatten(), inputs, weight).relu_()
        stacked = features.view(-1, dimensions, self._hidden).transpose(0, 1)
        stacked = torch.bmm(stacked, self.weight2).add_(self.bias2).relu_()
        stacked = torch.bmm(stacked, self.head_weight1).add_(self.head_bias1).relu_()
        mean, raw_std = self._outputs(stacked, slice(None))
        return Gaussian(mean.T, self._std(raw_std.T))

    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Sum over the elements of their conditional log densities, shape (...)."""
        rows = actions.shape[:-1]
        gaussian = self.distribution(
            states.flatten(0, -2), latents.flatten(0, -2), actions.flatten(0, -2)
        )
        return log_density(actions.flatten(0, -2), gaussian).sum(dim=-1).view(rows)

    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Element by element, each clipped before the next network sees it, as in training."""
        dimensions, context = len(self.weight1), self._context
        known = torch.cat([states, latents], dim=-1)
        # The part of the first layers that waits for no action element, for all dimensions at once.
        weight = self.weight1[:, :context].transpose(0, 1).flatten(1)
        waiting = torch.addmm(self.bias1.flatten(), known, weight).view(
            -1, dimensions, self._hidden
        )
        actions = states.new_zeros(len(states), dimensions)
        noise = torch.zeros_like(actions) if generator is None else _noise_like(actions, generator)
        for index in range(dimensions):
            own = torch.addmm(
                waiting[:, index],
                actions[:, :index],
                self.weight1[index, context : context + index],
            ).relu_()
            own = torch.addmm(self.bias2[index], own, self.weight2[index]).relu_()
            own = torch.addmm(self.head_bias1[index], own, self.head_weight1[index]).relu_()
            mean, raw_std = self._outputs(own.unsqueeze(0), slice(index, index + 1))
            element = mean[0] + self._std(raw_std[0]) * noise[:, index]
            actions[:, index] = element.clamp(self.low[index], self.high[index])
        return actions

    def _outputs(self, heads: Tensor, which: slice) -> tuple[Tensor, Tensor]:
        """Head activations (D, R, 2 hidden) of dimensions `which` to mean and raw std, (D, R)."""
        # Both output layers as one block-diagonal product, which reads the activations once.
        weight = self.head_weight2[which].flatten(1).unsqueeze(-1) * self._block
        outputs = torch.baddbmm(self.head_bias2[which], heads, weight)
        mean, raw_std = outputs.unbind(dim=-1)
        return mean, raw_std

    def _std(self, raw: Tensor) -> Tensor:
        return functional.softplus(raw) + self._min_std


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
        self.logits = mlp([state_dim + latent_dim, hidden, hidden, hidden, choices])

    def log_prob(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of the indices, shape (...)."""
        logits = self.logits(torch.cat([states, latents], dim=-1))
        chosen = logits.log_softmax(dim=-1).gather(-1, actions.long())
        return cast(Tensor, chosen.squeeze(-1))

    def act(self, states: Tensor, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Indices (E, 1), int64."""
        logits = self.logits(torch.cat([states, latents], dim=-1))
        if generator is None:
            return cast(Tensor, logits.argmax(dim=-1, keepdim=True))
        probabilities = logits.softmax(dim=-1).to(generator.device)
        return torch.multinomial(probabilities, 1, generator=generator).to(states.device)


def make_decoder(
    state_dim: int,
    latent_dim: int,
    action_dim: int,
    hidden: int,
    discrete_actions: int,
    min_std: float,
    action_low: Sequence[float],
    action_high: Sequence[float],
) -> Decoder:
    """The decoder for an action space: categorical where `discrete_actions` > 0, else Gaussian.

    Args:
        state_dim: S.
        latent_dim: Z.
        action_dim: A.
        hidden: Width of the hidden layers.
        discrete_actions: How many actions there are to choose from, 0 if they are continuous.
        min_std: Lower bound of the standard deviation, in units of the action.
        action_low: Lower bounds of the action space, (A,); minus infinity where there is none.
        action_high: Upper bounds, likewise.

    Raises:
        ValueError: The bounds do not have one value per action dimension.
    """
    if discrete_actions:
        return CategoricalDecoder(state_dim, latent_dim, discrete_actions, hidden)
    if not len(action_low) == len(action_high) == action_dim:
        raise ValueError(
            f"action_low, action_high: got {len(action_low)} and {len(action_high)} values, "
            f"expected {action_dim}"
        )
    return AutoregressiveGaussianDecoder(
        state_dim, latent_dim, action_dim, hidden, min_std, action_low, action_high
    )


def _uniform(shape: tuple[int, ...], fan_in: int | Tensor) -> nn.Parameter:
    """The initialisation of torch's linear layers: uniform within 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in) if isinstance(fan_in, int) else fan_in.float().rsqrt()
    return nn.Parameter((2 * torch.rand(shape) - 1) * bound)


def _noise_like(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(values.shape, generator=generator, device=generator.device).to(values.device)
