"""One Q-network over normalised states and latents (A.2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class QNetwork(nn.Module):
    """One Q-network: linear layers with LayerNorm before each GELU, and a linear output (A.2.3).

    The first layer is evaluated as W [s; z] = W_s s + W_z z, so that the state part costs once per
    state and not once per candidate.
    """

    def __init__(self, state_dim: int, latent_dim: int, hidden: Sequence[int]) -> None:
        """Builds the network with torch's default initialisation.

        Args:
            state_dim: S.
            latent_dim: Z.
            hidden: Widths of the hidden layers, at least one.
        """
        super().__init__()
        self.state_dim = state_dim
        self.first = nn.Linear(state_dim + latent_dim, hidden[0])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in hidden)
        outputs = (*hidden[1:], 1)
        self.layers = nn.ModuleList(
            nn.Linear(inputs, width) for inputs, width in zip(hidden, outputs, strict=True)
        )

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        """Values of normalised inputs.

        Args:
            states: Normalised states, (N, S).
            latents: Normalised latents, (N, Z) or (N, n, Z).

        Returns:
            Q(s, z), (N,) or (N, n).
        """
        state_part = self.state_part(states)
        return self.from_state_part(
            state_part.unsqueeze(1) if latents.ndim == 3 else state_part, latents
        )

    def state_part(self, states: Tensor) -> Tensor:
        """W_s s + b of normalised states (N, S), to be used for all candidates, (N, hidden[0])."""
        return functional.linear(states, self.first.weight[:, : self.state_dim], self.first.bias)

    def from_state_part(self, state_part: Tensor, latents: Tensor) -> Tensor:
        """The rest of `forward`.

        Args:
            state_part: Broadcasts to (..., hidden[0]).
            latents: Normalised, (..., Z).

        Returns:
            Q(s, z), (...).
        """
        features = state_part + functional.linear(latents, self.first.weight[:, self.state_dim :])
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features = layer(functional.gelu(norm(features)))
        return features.squeeze(-1)
