"""The latent action value Q(s, z): two Q-networks and their input statistics (4.2, A.2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from ldcq.config import ConfigError
from ldcq.critic.fourier import NO_FEATURES, FourierFeatures
from ldcq.critic.q_network import QNetwork
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights

if TYPE_CHECKING:
    from common.store import Artifact

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 262_144}
"""State-latent pairs evaluated at once over many candidates. On a CPU the activations then stay in
the cache, which halves the time of 64,000 pairs; on a GPU it only bounds the memory."""


class Critic(nn.Module):
    """Two Q-networks for clipped double Q-learning, over raw states and latents.

    Normalisation is its own. The networks learn values of scaled rewards: `q_values` is in those
    units, `score` in units of discounted return.
    """

    def __init__(
        self,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
        hidden: Sequence[int],
        reward_scale: float = 1.0,
        fourier: FourierFeatures = NO_FEATURES,
    ) -> None:
        """Builds both networks.

        Args:
            state_normaliser: Statistics of the states, (S,).
            latent_normaliser: Statistics of the latents, (Z,).
            hidden: Widths of the hidden layers of each network.
            reward_scale: What rewards were multiplied by in training.
            fourier: What the networks see of the state beside the state.

        Raises:
            ConfigError: It is of entries that states do not have.
        """
        super().__init__()
        self.state_normaliser = state_normaliser
        self.latent_normaliser = latent_normaliser
        self.state_dim = int(state_normaliser.mean.shape[0])
        self.latent_dim = int(latent_normaliser.mean.shape[0])
        self.hidden = tuple(hidden)
        self.reward_scale = reward_scale
        if any(index >= self.state_dim for index in fourier.indices):
            raise ConfigError(
                f"critic.fourier_indices is {[*fourier.indices]}, expected entries of the state, "
                f"0 to {self.state_dim - 1}"
            )
        self.fourier = fourier
        self.networks = nn.ModuleList(
            QNetwork(self.state_dim + fourier.width, self.latent_dim, hidden) for _ in range(2)
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact, device: torch.device | str = "cpu") -> Self:
        """Rebuilds a published critic, in evaluation mode.

        Args:
            artifact: Of kind "critic"; `meta.details` holds `hidden` and `reward_scale`.
            device: Where it is to run.

        Raises:
            ValueError: The artifact is of another kind, or its weights do not fit.
        """
        meta = artifact.meta
        if meta.kind != "critic":
            raise ValueError(
                f"artifact {artifact.version} is of kind {meta.kind!r}, expected 'critic'"
            )
        critic = cls(
            Normaliser.identity(meta.dimensions["state"]),
            Normaliser.identity(meta.dimensions["latent"]),
            cast("Sequence[int]", meta.details["hidden"]),
            float(cast("float", meta.details["reward_scale"])),
            _fourier(meta.details),
        )
        load_weights(critic, artifact.tensors)
        return critic.to(device).eval()

    def details(self) -> dict[str, JsonValue]:
        """What `from_artifact` needs beside the dimensions and weights."""
        details: dict[str, JsonValue] = {
            "hidden": [*self.hidden],
            "reward_scale": self.reward_scale,
        }
        if self.fourier.width:
            details["fourier"] = {
                "indices": [*self.fourier.indices],
                "octaves": self.fourier.octaves,
            }
        return details

    def q_values(self, states: Tensor, latents: Tensor) -> Tensor:
        """Q_1 and Q_2 in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, Z) or (N, n, Z).

        Returns:
            Values, (2, N) or (2, N, n).
        """
        states, latents = self.inputs(states, latents)
        # A loop: on a CPU it is about twice as fast over many candidates as one batched product
        # over both networks.
        return torch.stack([network(states, latents) for network in self.networks])

    def min_q(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (clipped double Q), in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        rows = ROWS_AT_ONCE.get(states.device.type, ROWS_AT_ONCE["cuda"])
        most = max(1, rows // max(1, latents.shape[1]))
        blocks = [slice(start, start + most) for start in range(0, len(states), most)]
        return torch.cat(
            [self.q_values(states[block], latents[block]).amin(dim=0) for block in blocks]
        )

    def score(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (section 4.2), in units of discounted return.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        return self.min_q(states, latents) / self.reward_scale

    def inputs(self, states: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks see of raw states (N, S), once per state, and of raw latents."""
        return self.fourier.append_to(self.state_normaliser(states)), self.latent_normaliser(
            latents
        )


def _fourier(details: Mapping[str, JsonValue]) -> FourierFeatures:
    """Of a published critic; none in one that does not name them."""
    given = cast("Mapping[str, JsonValue]", details.get("fourier", {}))
    if not given:
        return NO_FEATURES
    return FourierFeatures(
        tuple(cast("Sequence[int]", given["indices"])), cast("int", given["octaves"])
    )
