"""One Q-network over normalised states and latents (A.2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class QNetwork(nn.Module):
    """Linear layers with LayerNorm before each GELU, and a linear output (A.2.3).

    The first layer is evaluated as W [s; z] = W_s s + W_z z, so that the state part costs once per
    state and not once per candidate. Without latents it is a V-network.

    Learned sines of the state beside the state are no part of the paper's network: a network over
    coordinates alone is smooth in them and carries values through what parts them, a wall for one
    (Tancik et al. 2020; with learned frequencies: Yang et al. 2022).

    Attributes:
        state_width: Inputs of the first layer that come from the state: S and the sines.
        frequencies: Of the sines, in radians per standard deviation, (S, F); None without sines.
        phases: In radians, (F,).
    """

    def __init__(
        self,
        state_dim: int,
        latent_dim: int,
        hidden: Sequence[int],
        outputs: int = 1,
        fourier_features: int = 0,
    ) -> None:
        """Builds the network with torch's default initialisation; frequencies are of N(0, 1).

        Args:
            state_dim: S.
            latent_dim: Z; 0 for a network over states.
            hidden: Widths of the hidden layers, at least one.
            outputs: K, values of each pair.
            fourier_features: F, sines of the state.
        """
        super().__init__()
        self.state_width = state_dim + fourier_features
        self.frequencies: nn.Parameter | None = None
        if fourier_features:
            self.frequencies = nn.Parameter(torch.randn(state_dim, fourier_features))
            self.phases = nn.Parameter(2 * math.pi * torch.rand(fourier_features))
        self.first = nn.Linear(self.state_width + latent_dim, hidden[0])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in hidden)
        widths = (*hidden[1:], outputs)
        self.layers = nn.ModuleList(
            nn.Linear(inputs, width) for inputs, width in zip(hidden, widths, strict=True)
        )

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """Values of normalised inputs.

        Args:
            states: Normalised states, (N, S).
            latents: Normalised latents, (N, Z) or (N, n, Z).

        Returns:
            Q(s, z), (N, K) or (N, n, K).
        """
        state_part = self.state_part(states)
        return self.from_state_part(
            state_part.unsqueeze(1) if latents.ndim == 3 else state_part, latents
        )

    def state_part(self, states: Tensor) -> Tensor:
        """W_s [s; sin(B s + b)] + c of normalised states (N, S), for all candidates, (N, width)."""
        if self.frequencies is not None:
            sines = torch.addmm(self.phases, states, self.frequencies).sin()
            states = torch.cat((states, sines), dim=1)
        return functional.linear(states, self.first.weight[:, : self.state_width], self.first.bias)

    def from_state_part(self, state_part: Tensor, latents: Tensor) -> Tensor:
        """The rest of `forward`.

        Args:
            state_part: Broadcasts to (..., hidden[0]).
            latents: Normalised, (..., Z).

        Returns:
            Q(s, z), (..., K).
        """
        weight = self.first.weight[:, self.state_width :]
        features = state_part + functional.linear(latents, weight)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features = layer(functional.gelu(norm(features)))
        return features
