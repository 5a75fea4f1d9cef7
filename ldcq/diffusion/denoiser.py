"""The denoising network mu_psi(z_t, s, t) (A.2.2), with a goal mu_psi(z_t, s, g, t) (section 4.3),
as it is trained; `split` has the same function as it is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.nn.mlp import mlp


def time_embedding(time: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of the integer time step (A.2.2; Vaswani et al. 2017).

    Args:
        time: t, shape (B,).
        width: Even width of the embedding.

    Returns:
        Sines, then cosines, at frequencies from 1 down to 1e-4, shape (B, width).
    """
    half = width // 2
    exponents = torch.arange(half, device=time.device, dtype=torch.float32) / max(half - 1, 1)
    angles = time.float()[:, None] * torch.exp(-math.log(10_000.0) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def skip_sources(widths: Sequence[int]) -> tuple[int | None, ...]:
    """Which earlier block's output each block's input is joined by, as in a U-Net (A.2.2).

    Blocks are paired from the outside in, the first with the last; a pair is joined where its
    widths are equal and a block lies between (the output of the block just before is the input
    already).

    Args:
        widths: Widths of the blocks.

    Returns:
        For every block the index of its source, or None.
    """
    last = len(widths) - 1
    return tuple(
        last - block
        if block - (last - block) > 1 and widths[block] == widths[last - block]
        else None
        for block in range(len(widths))
    )


class ResidualBlock(nn.Module):
    """x + LN(W2 GELU(FiLM_t(LN(W1 [x; c])))): the encodings c of state and goal are concatenated,
    time scales and shifts.

    All conditions act on the first layer only, and linearly, which is what lets `split` take them
    out of the loop.
    """

    def __init__(self, width: int, condition_dim: int, time_dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(width + condition_dim, width)
        self.first_norm = nn.LayerNorm(width)
        self.film = nn.Linear(time_dim, 2 * width)
        self.second = nn.Linear(width, width)
        self.second_norm = nn.LayerNorm(width)

    def forward(self, latent: Tensor, condition: Tensor, time: Tensor) -> Tensor:
        """One block.

        Args:
            latent: The current activation x, (B, width).
            condition: The encodings of state and goal, (B, condition_dim).
            time: The time's encoding, (B, time_dim).

        Returns:
            Shape (B, width).
        """
        scale, shift = self.film(time).chunk(2, dim=1)
        hidden = self.first_norm(self.first(torch.cat([latent, condition], dim=1)))
        hidden = self.second(functional.gelu(hidden * (1 + scale) + shift))
        return cast(Tensor, latent + self.second_norm(hidden))


class Denoiser(nn.Module):
    """mu_psi(z_t, s, t), which predicts z_0 (A.2.2): residual blocks with U-Net like skip
    connections.

    A goal has an encoder of its own, whose output stands beside the state's. The null condition of
    classifier-free guidance is a vector of zeros in the place of an *encoding*. A zero state would
    not do: states are standardised, so zero is the mean state, whose encoding is not null.

    Args:
        state_dim: S.
        latent_dim: Z.
        widths: Widths of the residual blocks.
        condition_dim: Width of the state's encoding, and of the goal's.
        time_dim: Width of the time's embedding and encoding, even.
        goal_dim: G; 0: there are no goals.
        octaves: Of the sines and cosines that the encoders see beside state and goal.
    """

    def __init__(
        self,
        state_dim: int,
        latent_dim: int,
        widths: Sequence[int],
        condition_dim: int,
        time_dim: int,
        goal_dim: int = 0,
        octaves: int = 0,
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.time_dim = time_dim
        widths_of_one = (condition_dim, condition_dim)
        self.encode_state = mlp([state_dim, *widths_of_one], nn.GELU, octaves=octaves)
        self.encode_goal = (
            mlp([goal_dim, *widths_of_one], nn.GELU, octaves=octaves) if goal_dim else None
        )
        width_of_both = 2 * condition_dim if goal_dim else condition_dim
        self.encode_time = nn.Sequential(mlp([time_dim, time_dim, time_dim], nn.GELU), nn.GELU())
        before = (latent_dim, *self.widths[:-1])
        self.resize = nn.ModuleList(
            nn.Linear(inputs, width) if index == 0 or inputs != width else nn.Identity()
            for index, (inputs, width) in enumerate(zip(before, self.widths, strict=True))
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(width, width_of_both, time_dim) for width in self.widths
        )
        self.last_norm = nn.LayerNorm(self.widths[-1])
        self.last = nn.Linear(self.widths[-1], latent_dim)
        self.skips = skip_sources(self.widths)

    def forward(
        self,
        latent: Tensor,
        state: Tensor,
        time: Tensor,
        keep: Tensor | None = None,
        goal: Tensor | None = None,
        keep_goal: Tensor | None = None,
    ) -> Tensor:
        """Predicts z_0.

        Args:
            latent: Noisy standardised latents z_t, (B, Z).
            state: Standardised states, (B, S).
            time: t, integers from 1 to T, (B,).
            keep: 1 where the state is given, 0 where it is nulled, (B,); None: always given.
            goal: Standardised goals, (B, G), of a network with goals.
            keep_goal: As `keep`, for the goal.

        Returns:
            z0_hat, (B, Z).
        """
        condition = _kept(self.encode_state(state), keep)
        if self.encode_goal is not None:
            condition = torch.cat([condition, _kept(self.encode_goal(goal), keep_goal)], dim=1)
        encoded_time = self.encode_time(time_embedding(time, self.time_dim))
        outputs: list[Tensor] = []
        for resize, block, skip in zip(self.resize, self.blocks, self.skips, strict=True):
            latent = resize(latent)
            if skip is not None:
                latent = latent + outputs[skip]
            latent = block(latent, condition, encoded_time)
            outputs.append(latent)
        return cast(Tensor, self.last(self.last_norm(latent)))


def _kept(encoded: Tensor, keep: Tensor | None) -> Tensor:
    return encoded if keep is None else encoded * keep[:, None]
