"""The denoiser taken apart for sampling: what depends on the state and goal, on the time and on the
latent is computed apart.

W [x; s; g] = W_x x + W_s s + W_g g exactly, so the part of state and goal in every block is
computed once per state and call and serves all its candidates and all denoising steps. Time acts by
FiLM on a LayerNorm, so the two merge into one LayerNorm whose gain and bias are a row of a table,
made once per checkpoint. Only W_x x and what follows is left for each latent and step.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.diffusion.denoiser import Denoiser, ResidualBlock, time_embedding

Condition = tuple[Tensor, ...]
"""For each block, W_s s + W_g g + b: shape (N, width), or (width,) for the null condition. Where
the unconditional half of guidance keeps the state or the goal, its parts follow, as many again."""

Nulled = Literal["state", "goal", "both"]
"""What the unconditional half of guidance goes without."""


class FrozenDenoiser(Protocol):
    """A denoiser with frozen weights, in the parts that sampling needs."""

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """The state's and goal's part of every block, once per state and call.

        Args:
            states: Standardised states, (N, S).
            goals: Standardised goals, (N, G), of a network with goals.
            nulled: What `predict` nulls with this condition; without goals it is all there is.

        Returns:
            Tensors of N rows, which may be repeated and padded.
        """
        ...

    def prepare(self, condition: Condition) -> Condition:
        """Lays out the R rows of a block, once for all its steps."""
        ...

    def predict(self, latent: Tensor, condition: Condition, time: int, guidance: float) -> Tensor:
        """mu(z, null, t) + w (mu(z, s, t) - mu(z, null, t)) (Algorithm 1 line 7); w = 0 and 1 need
        one half only. What null is without was said to `condition`.

        Args:
            latent: z_t, (R, Z).
            condition: Of these rows, from `prepare`.
            time: t, from 1 to T, of all rows.
            guidance: w.

        Returns:
            z0_hat, (R, Z).
        """
        ...


@dataclass(frozen=True)
class _Affine:
    """A linear layer with its matrix laid out for `addmm`, (inputs, outputs)."""

    matrix: Tensor
    bias: Tensor

    @staticmethod
    def of(layer: nn.Linear) -> _Affine:
        return _Affine(layer.weight.T.contiguous(), layer.bias)

    def __call__(self, values: Tensor) -> Tensor:
        return torch.addmm(self.bias, values, self.matrix)


class _SplitBlock:
    """One residual block: tables of T rows for time, and the latent's half of the first layer."""

    def __init__(self, block: ResidualBlock, encoded_time: Tensor) -> None:
        width = block.second.out_features
        self.shape = (width,)
        first = block.first.weight
        self.state = first[:, width:].T.contiguous()
        self.state_bias = block.first.bias
        self.latent = first[:, :width].T.contiguous()
        scale, shift = block.film(encoded_time).chunk(2, dim=1)
        norm = block.first_norm
        self.gain = (norm.weight * (1 + scale)).contiguous().unbind()
        self.bias = (norm.bias * (1 + scale) + shift).contiguous().unbind()
        self.second = _Affine.of(block.second)
        self.norm_gain = block.second_norm.weight
        self.norm_bias = block.second_norm.bias

    def __call__(self, latent: Tensor, condition: Tensor, row: int) -> Tensor:
        hidden = torch.addmm(condition, latent, self.latent)
        hidden = functional.layer_norm(hidden, self.shape, self.gain[row], self.bias[row])
        hidden = self.second(functional.gelu(hidden))
        return functional.layer_norm(hidden, self.shape, self.norm_gain, self.norm_bias).add_(
            latent
        )


def encode(
    encode_state: nn.Module,
    encode_goal: nn.Module | None,
    states: Tensor,
    goals: Tensor | None,
    nulled: Nulled,
) -> tuple[Tensor, ...]:
    """The encodings side by side, (N, width), and again with one of them nulled, if `nulled` is one
    of two.
    """
    state = encode_state(states)
    if encode_goal is None:
        return (state,)
    goal = encode_goal(goals)
    both = torch.cat([state, goal], dim=1)
    if nulled == "both":
        return (both,)
    kept = [torch.zeros_like(state), goal] if nulled == "state" else [state, torch.zeros_like(goal)]
    return both, torch.cat(kept, dim=1)


class SplitDenoiser:
    """`Denoiser` with frozen weights, equal to it up to rounding.

    Args:
        denoiser: The trained network; its weights are copied.
        training_steps: T, the rows of the time table.
    """

    @torch.inference_mode()
    def __init__(self, denoiser: Denoiser, training_steps: int) -> None:
        denoiser = copy.deepcopy(denoiser)
        device = denoiser.last.weight.device
        times = torch.arange(1, training_steps + 1, device=device)
        encoded_time = denoiser.encode_time(time_embedding(times, denoiser.time_dim))
        self._encoders = denoiser.encode_state, denoiser.encode_goal
        self._resize = [
            _Affine.of(layer) if isinstance(layer, nn.Linear) else None for layer in denoiser.resize
        ]
        self._blocks = [
            _SplitBlock(block, encoded_time)
            for block in denoiser.blocks
            if isinstance(block, ResidualBlock)
        ]
        self._skips = denoiser.skips
        self._norm = denoiser.last_norm
        self._last = _Affine.of(denoiser.last)

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """W_s s + W_g g + b of each block, each (N, width). See `FrozenDenoiser`."""
        return tuple(
            torch.addmm(block.state_bias, encoded, block.state)
            for encoded in encode(*self._encoders, states, goals, nulled)
            for block in self._blocks
        )

    def null_condition(self) -> Condition:
        """The part of nothing at all, W_s 0 + b, for any number of rows: each (width,)."""
        return tuple(block.state_bias for block in self._blocks)

    def prepare(self, condition: Condition) -> Condition:
        """As it is. See `FrozenDenoiser`."""
        return condition

    def predict(self, latent: Tensor, condition: Condition, time: int, guidance: float) -> Tensor:
        """z0_hat under guidance, (R, Z). See `FrozenDenoiser`."""
        count = len(self._blocks)
        if guidance == 1:
            return self(latent, condition[:count], time)
        null = self(latent, condition[count:] or self.null_condition(), time)
        if guidance == 0:
            return null
        return null.lerp_(self(latent, condition[:count], time), guidance)

    def __call__(self, latent: Tensor, condition: Condition, time: int) -> Tensor:
        """Predicts z_0.

        Args:
            latent: z_t, (R, Z).
            condition: A row for each latent, or the null condition.
            time: t, from 1 to T, of all rows.

        Returns:
            z0_hat, (R, Z).
        """
        row = time - 1
        outputs: list[Tensor] = []
        for resize, block, part, skip in zip(
            self._resize, self._blocks, condition, self._skips, strict=True
        ):
            if resize is not None:
                latent = resize(latent)
            if skip is not None:
                latent = latent + outputs[skip]
            latent = block(latent, part, row)
            outputs.append(latent)
        norm = self._norm
        latent = functional.layer_norm(latent, norm.normalized_shape, norm.weight, norm.bias)
        return self._last(latent)
