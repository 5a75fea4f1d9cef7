"""The approximate posterior q(z | tau) (sections 4.1 and A.2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldcq.nn.distributions import Gaussian, GaussianHead
from ldcq.nn.mlp import mlp

MIN_LATENT_STD = 1e-4
"""Keeps the logarithm in the KL term finite where softplus underflows."""


class GruEncoder(nn.Module):
    """Two stacked bidirectional GRU layers and two heads (A.2.1).

    The heads read the final hidden states of both directions of the last layer, so that each half
    has seen the whole window.

    Args:
        features: S + A, entries of one time step.
        hidden: Width of each direction and of the heads.
        latent_dim: Z.
    """

    def __init__(self, features: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = GaussianHead(2 * hidden, hidden, latent_dim, MIN_LATENT_STD)

    def forward(self, window: Tensor) -> Gaussian:
        """Standardised window (B, H, S + A) to q(z | tau) over (B, Z)."""
        _, final = self.gru(window)
        gaussian: Gaussian = self.head(torch.cat([final[-2], final[-1]], dim=-1))
        return gaussian


class MlpEncoder(nn.Module):
    """An MLP over the flattened window: cheap on a CPU, for a fixed H.

    Args:
        features: S + A, entries of one time step.
        horizon: H.
        hidden: Width of the two hidden layers and of the heads.
        latent_dim: Z.
    """

    def __init__(self, features: int, horizon: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(mlp([horizon * features, hidden, hidden]), nn.ReLU())
        self.head = GaussianHead(hidden, hidden, latent_dim, MIN_LATENT_STD)

    def forward(self, window: Tensor) -> Gaussian:
        """Standardised window (B, H, S + A) to q(z | tau) over (B, Z)."""
        gaussian: Gaussian = self.head(self.trunk(window.flatten(1)))
        return gaussian


def make_encoder(
    name: str, features: int, horizon: int, hidden: int, latent_dim: int
) -> GruEncoder | MlpEncoder:
    """The encoder called `name` in the configuration.

    Raises:
        ValueError: There is no such encoder.
    """
    if name == "gru":
        return GruEncoder(features, hidden, latent_dim)
    if name == "mlp":
        return MlpEncoder(features, horizon, hidden, latent_dim)
    raise ValueError(f"vae.encoder: got {name!r}, expected 'gru' or 'mlp'")
