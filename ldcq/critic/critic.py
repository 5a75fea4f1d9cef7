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

FIRST_LOOK = 2
"""Candidates of a state, the best by the first network, that set the bound of `best_value`."""


def clipped_double_q(values: Tensor) -> Tensor:
    """The smaller of both critics, min_j Q_j (Fujimoto et al. 2018; Algorithm 1 line 10).

    Args:
        values: Of both critics, (2, ...).

    Returns:
        Values, (...).
    """
    return values.amin(dim=0)


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
        states = self._inputs(states)
        latents = self.latent_normaliser(latents)
        # A loop: on a CPU it is about twice as fast over many candidates as one batched product
        # over both networks.
        return torch.stack([network(states, latents) for network in self.networks])

    def smaller_q(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate, in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        rows = ROWS_AT_ONCE.get(states.device.type, ROWS_AT_ONCE["cuda"])
        most = max(1, rows // max(1, latents.shape[1]))
        parts = [
            clipped_double_q(
                self.q_values(states[start : start + most], latents[start : start + most])
            )
            for start in range(0, len(states), most)
        ]
        return torch.cat(parts)

    def best_value(self, states: Tensor, latents: Tensor) -> Tensor:
        """max_z min_j Q_j(s, z) over each state's candidates (Eq. 8), in units of scaled rewards.

        A candidate whose Q_1 is below some candidate's min_j Q_j cannot be the best, whatever its
        Q_2: the second network sees the others only. Where both networks learn the same values
        these are a tenth of the candidates. On a CPU with bfloat16 products, wide layers choose
        the candidate in that precision (candidates closer than its rounding may change places);
        its value is always that of float32.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N,).
        """
        if states.device.type != "cpu":  # There, finding out which are left takes longer.
            return self.smaller_q(states, latents).amax(dim=1)
        states, latents = self._inputs(states), self.latent_normaliser(latents)
        first, second = cast("tuple[QNetwork, QNetwork]", tuple(self.networks))
        most = max(1, ROWS_AT_ONCE["cpu"] // max(1, latents.shape[1]))
        blocks = [slice(start, start + most) for start in range(0, len(states), most)]
        part = first.state_part(states).unsqueeze(1)
        upper = torch.cat([first.screen(part[block], latents[block]) for block in blocks])
        part = second.state_part(states)
        top = upper.topk(min(FIRST_LOOK, upper.shape[1]), dim=1)
        looked = latents.take_along_dim(top.indices.unsqueeze(-1), dim=1)
        values = torch.minimum(top.values, second.screen(part.unsqueeze(1), looked))
        smaller = torch.full_like(upper, -torch.inf).scatter_(1, top.indices, values)
        left = (upper > values.amax(dim=1, keepdim=True)).nonzero()
        for start in range(0, len(left), ROWS_AT_ONCE["cpu"]):
            pairs = left[start : start + ROWS_AT_ONCE["cpu"]].unbind(1)
            values = second.screen(part[pairs[0]], latents[pairs])
            smaller[pairs] = torch.minimum(upper[pairs], values)
        chosen = smaller.argmax(dim=1).view(-1, 1, 1)
        best = latents.take_along_dim(chosen, dim=1).squeeze(1)
        return torch.minimum(first(states, best), second(states, best))

    def score(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (section 4.2), in units of discounted return.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        return self.smaller_q(states, latents) / self.reward_scale

    def _inputs(self, states: Tensor) -> Tensor:
        """What the networks see of raw states (N, S), once per state and not per candidate."""
        return self.fourier.append_to(self.state_normaliser(states))


def _fourier(details: Mapping[str, JsonValue]) -> FourierFeatures:
    """Of a published critic; none in one that does not name them."""
    given = cast("Mapping[str, JsonValue]", details.get("fourier", {}))
    if not given:
        return NO_FEATURES
    return FourierFeatures(
        tuple(cast("Sequence[int]", given["indices"])), cast("int", given["octaves"])
    )
