"""The beta-VAE: encoder, decoder, conditional prior and the normalisation they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional

from common.store import Artifact
from ldcq.config import Config
from ldcq.data.episodes import Spaces
from ldcq.data.statistics import Statistics
from ldcq.nn.gaussian import Gaussian
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights
from ldcq.vae.conditional_prior import ConditionalPrior
from ldcq.vae.decoder import make_decoder
from ldcq.vae.encoder import make_encoder
from ldcq.vae.latent_policy import bounds_from_json, bounds_to_json


@dataclass(frozen=True)
class Architecture:
    """What a VAE's networks are made from; travels in an artifact's `dimensions` and `details`.

    Attributes:
        state_dim: S.
        action_dim: A; 1 where actions are discrete.
        discrete_actions: The number of discrete actions, 0 where actions are continuous.
        latent_dim: Z.
        horizon: H.
        encoder: `gru` or `mlp`.
        hidden: Width of encoder and conditional prior.
        decoder_hidden: Width of the decoder.
        min_std: Floor of the decoder's standard deviation.
        action_low: Lower bounds of the action space, A values.
        action_high: Upper bounds, A values.
    """

    state_dim: int
    action_dim: int
    discrete_actions: int
    latent_dim: int
    horizon: int
    encoder: str
    hidden: int
    decoder_hidden: int
    min_std: float
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]

    @classmethod
    def from_config(cls, config: Config, spaces: Spaces) -> Architecture:
        """The architecture `config` asks for on data of these spaces."""
        return cls(
            state_dim=spaces.state_dim,
            action_dim=spaces.action_dim,
            discrete_actions=spaces.discrete_actions,
            latent_dim=config.vae.latent_dim,
            horizon=config.horizon,
            encoder=config.vae.encoder,
            hidden=config.vae.hidden,
            decoder_hidden=config.vae.decoder_hidden,
            min_std=config.vae.min_std,
            action_low=tuple(spaces.action_low.tolist()),
            action_high=tuple(spaces.action_high.tolist()),
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Architecture:
        """Reads back what `dimensions` and `details` wrote.

        Raises:
            ValueError: The artifact is of another kind or lacks a key.
        """
        meta = artifact.meta
        if meta.kind != "vae":
            raise ValueError(f"artifact.kind: got {meta.kind!r}, expected 'vae'")
        sizes, details = meta.dimensions, meta.details
        try:
            return cls(
                state_dim=sizes["state"],
                action_dim=sizes["action"],
                discrete_actions=sizes["discrete_actions"],
                latent_dim=sizes["latent"],
                horizon=sizes["horizon"],
                encoder=str(details["encoder"]),
                hidden=int(str(details["hidden"])),
                decoder_hidden=int(str(details["decoder_hidden"])),
                min_std=float(str(details["min_std"])),
                action_low=tuple(bounds_from_json(details["action_low"], -math.inf)),
                action_high=tuple(bounds_from_json(details["action_high"], math.inf)),
            )
        except KeyError as error:
            raise ValueError(f"VAE {artifact.version}: {error} is missing in meta.json") from error

    def dimensions(self) -> dict[str, int]:
        """For `Meta.dimensions`."""
        return {
            "state": self.state_dim,
            "action": self.action_dim,
            "latent": self.latent_dim,
            "horizon": self.horizon,
            "discrete_actions": self.discrete_actions,
            "goal": 0,
        }

    def details(self) -> dict[str, JsonValue]:
        """For `Meta.details`."""
        return {
            "encoder": self.encoder,
            "hidden": self.hidden,
            "decoder_hidden": self.decoder_hidden,
            "min_std": self.min_std,
            "action_low": bounds_to_json(self.action_low),
            "action_high": bounds_to_json(self.action_high),
        }


class Vae(nn.Module):
    """The beta-VAE of section 4.1 over raw states and actions.

    Args:
        architecture: What its networks are made from.
        statistics: Mean and deviation of the training states; None where they will be loaded.
    """

    def __init__(self, architecture: Architecture, statistics: Statistics | None = None) -> None:
        super().__init__()
        size = architecture
        self.architecture = architecture
        self.state_normaliser = (
            Normaliser.identity(size.state_dim)
            if statistics is None
            else Normaliser(
                torch.from_numpy(statistics.state_mean), torch.from_numpy(statistics.state_std)
            )
        )
        features = size.state_dim + (size.discrete_actions or size.action_dim)
        self.encoder = make_encoder(
            size.encoder, features, size.horizon, size.hidden, size.latent_dim
        )
        self.decoder = make_decoder(
            size.state_dim,
            size.latent_dim,
            size.action_dim,
            size.decoder_hidden,
            size.discrete_actions,
            size.min_std,
            size.action_low,
            size.action_high,
        )
        self.conditional_prior = ConditionalPrior(size.state_dim, size.hidden, size.latent_dim)

    @classmethod
    def from_artifact(cls, artifact: Artifact, device: torch.device | str = "cpu") -> Vae:
        """Rebuilds a published VAE, frozen.

        Args:
            artifact: Of kind "vae".
            device: Where it is to run.

        Raises:
            ValueError: The artifact is of another kind or not complete.
        """
        model = cls(Architecture.from_artifact(artifact))
        load_weights(model, artifact.tensors)
        return model.to(device).eval().requires_grad_(False)

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
        """`encode` for states that are standardised already."""
        choices = self.architecture.discrete_actions
        if choices:
            actions = functional.one_hot(actions.squeeze(-1), choices).to(states.dtype)
        gaussian: Gaussian = self.encoder(torch.cat([states, actions], dim=-1))
        return gaussian
