"""The temporally abstract world model p(s_{t+H} | s_t, z) (supplement B)."""

from __future__ import annotations

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.nn import functional

from common.store import Artifact
from ldcq.config import WorldModelConfig
from ldcq.nn.gaussian import Gaussian, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights

KIND = "world_model"


class WorldModel(nn.Module):
    """A diagonal Gaussian over the standardised change s_{t+H} - s_t.

    Changes are what H steps decide; of the state itself the network would have to copy most.

    Args:
        config: Widths of the network and floor of its deviations.
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).
        change_normaliser: Of raw changes (S,).
    """

    def __init__(
        self,
        config: WorldModelConfig,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
        change_normaliser: Normaliser,
    ) -> None:
        super().__init__()
        self.config = config
        self.state_normaliser = state_normaliser
        self.latent_normaliser = latent_normaliser
        self.change_normaliser = change_normaliser
        states, latents = len(state_normaliser.mean), len(latent_normaliser.mean)
        sizes = [states + latents, *config.hidden, 2 * states]
        self.network = mlp(sizes, nn.GELU, layer_norm=True)

    @classmethod
    def from_artifact(cls, artifact: Artifact, device: torch.device | str = "cpu") -> WorldModel:
        """The model as published, frozen.

        Args:
            artifact: Of kind "world_model".
            device: Where it is to run.

        Raises:
            ValueError: The artifact is of another kind, or its weights do not fit.
        """
        meta = artifact.meta
        if meta.kind != KIND:
            raise ValueError(f"artifact.kind: got {meta.kind!r}, expected {KIND!r}")
        states, latents = meta.dimensions["state"], meta.dimensions["latent"]
        model = cls(
            WorldModelConfig.model_validate(meta.details["world_model"]),
            Normaliser.identity(states),
            Normaliser.identity(latents),
            Normaliser.identity(states),
        )
        load_weights(model, artifact.tensors)
        return model.to(device).eval().requires_grad_(False)

    def details(self) -> dict[str, JsonValue]:
        """What rebuilding needs beyond the dimensions."""
        built = self.config.model_dump(mode="json", include={"hidden", "min_std"})
        return {"world_model": built}

    def forward(self, states: Tensor, latents: Tensor) -> Gaussian:
        """The standardised change.

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).

        Returns:
            Mean and deviation, each (..., S).
        """
        known = [self.state_normaliser(states), self.latent_normaliser(latents)]
        mean, raw_std = self.network(torch.cat(known, dim=-1)).chunk(2, dim=-1)
        return Gaussian(mean, functional.softplus(raw_std) + self.config.min_std)

    def log_density(self, states: Tensor, latents: Tensor, next_states: Tensor) -> Tensor:
        """Log density of the standardised change, in nats per dimension, shape (..., S).

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).
            next_states: Raw s_{t+H}, shape (..., S).
        """
        return log_density(self.change_normaliser(next_states - states), self(states, latents))

    def predict(self, states: Tensor, latents: Tensor) -> Tensor:
        """The mean of p(s_{t+H} | s_t, z), raw, shape (..., S); arguments as of `forward`."""
        return states + self.change_normaliser.inverse(self(states, latents).mean)
