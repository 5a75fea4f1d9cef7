"""The beta-VAE: encoder, decoder, conditional prior and the normalisation they share."""

from __future__ import annotations

import torch
from torch import Tensor

from ldcq.config import VaeConfig
from ldcq.nn.distributions import Gaussian
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from ldcq.vae.conditional_prior import ConditionalPrior
from ldcq.vae.decoder import make_decoder
from ldcq.vae.encoder import make_encoder
from ldcq.vae.low_level import LowLevelPolicy


class Vae(LowLevelPolicy):
    """The beta-VAE of section 4.1 over raw states and actions.

    Args:
        dimensions: All but the goal's.
        config: The section `vae`.
    """

    kind = "vae"
    Settings = VaeConfig
    config: VaeConfig

    def __init__(self, dimensions: Dimensions, config: VaeConfig) -> None:
        super().__init__(dimensions, config)
        states, latents = dimensions.state, dimensions.latent
        features = states + (dimensions.discrete_actions or dimensions.action)
        self.state_normaliser = Normaliser.identity(states)
        self.encoder = make_encoder(
            config.encoder, features, dimensions.horizon, config.hidden, latents
        )
        self.decoder = make_decoder(
            dimensions, config.decoder, config.decoder_hidden, config.min_std
        )
        self.conditional_prior = ConditionalPrior(states, config.hidden, latents)

    def encode(self, states: Tensor, actions: Tensor) -> Gaussian:
        """q(z | tau).

        Args:
            states: Raw, shape (B, H, S).
            actions: Raw, shape (B, H, A); int64 indices (B, H, 1) where actions are discrete.

        Returns:
            The posterior over (B, Z).
        """
        return self.encode_standardised(self.state_normaliser(states), actions)

    def encode_standardised(self, states: Tensor, actions: Tensor) -> Gaussian:
        """`encode` for states (B, H, S) that are standardised already."""
        features = self.decoder.features(actions)
        gaussian: Gaussian = self.encoder(torch.cat([states, features], dim=-1))
        return gaussian
