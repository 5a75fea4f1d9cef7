"""The learned conditional Gaussian prior p_omega(z | s0) of the VAE (Eq. 4)."""

from __future__ import annotations

from torch import Tensor, nn

from ldcq.nn.distributions import Gaussian, GaussianHead
from ldcq.nn.mlp import mlp
from ldcq.vae.encoder import MIN_LATENT_STD


class ConditionalPrior(nn.Module):
    """A loose regularisation of the latent space, not what latents are sampled from (section 4.1).

    Args:
        state_dim: S.
        hidden: Width of the hidden layers.
        latent_dim: Z.
    """

    def __init__(self, state_dim: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(mlp([state_dim, hidden, hidden]), nn.ReLU())
        self.head = GaussianHead(hidden, hidden, latent_dim, MIN_LATENT_STD)

    def forward(self, states: Tensor) -> Gaussian:
        """Standardised first states (B, S) to p_omega(z | s0) over (B, Z)."""
        gaussian: Gaussian = self.head(self.trunk(states))
        return gaussian
