"""The decoder side of a published VAE: what turns a state and a latent into an action."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from common.store import Artifact
from ldcq.nn.normaliser import Normaliser
from ldcq.nn.weights import load_weights
from ldcq.vae.decoder import Decoder, make_decoder

KIND_CLONED = "bc"
"""Artifacts of behaviour cloning: a decoder over latents of no dimension, pi(a | s)."""


class LatentPolicy(nn.Module):
    """pi(a | s, z) over raw states, with its normalisation inside.

    Args:
        version: The version of the VAE it belongs to, or of the cloned network that it is.
        dimensions: The VAE's dimensions: state, action, latent, horizon, discrete_actions.
        state_normaliser: Raw to standardised states.
        decoder: The network.
    """

    def __init__(
        self,
        version: str,
        dimensions: Mapping[str, int],
        state_normaliser: Normaliser,
        decoder: Decoder,
    ) -> None:
        super().__init__()
        self.version = version
        self.state_dim = dimensions["state"]
        self.action_dim = dimensions["action"]
        self.latent_dim = dimensions["latent"]
        self.horizon = dimensions["horizon"]
        self.discrete_actions = dimensions["discrete_actions"]
        self.state_normaliser = state_normaliser
        self.decoder = decoder

    @classmethod
    def from_artifact(cls, artifact: Artifact, device: torch.device | str = "cpu") -> LatentPolicy:
        """Rebuilds the policy from a VAE artifact, leaving the encoder aside, frozen.

        Args:
            artifact: Of kind "vae" or "bc".
            device: Where it is to run.

        Raises:
            ValueError: The artifact is of another kind or lacks one of the policy's weights.
        """
        if artifact.meta.kind not in ("vae", KIND_CLONED):
            raise ValueError(
                f"artifact.kind: got {artifact.meta.kind!r}, expected 'vae' or {KIND_CLONED!r}"
            )
        dimensions, details = artifact.meta.dimensions, artifact.meta.details
        decoder = make_decoder(
            state_dim=dimensions["state"],
            latent_dim=dimensions["latent"],
            action_dim=dimensions["action"],
            hidden=_integer(details, "decoder_hidden"),
            discrete_actions=dimensions["discrete_actions"],
            min_std=_real(details, "min_std"),
            action_low=bounds_from_json(details["action_low"], -math.inf),
            action_high=bounds_from_json(details["action_high"], math.inf),
        )
        policy = cls(
            artifact.version, dimensions, Normaliser.identity(dimensions["state"]), decoder
        )
        names = policy.state_dict().keys() & artifact.tensors.keys()
        load_weights(policy, {name: artifact.tensors[name] for name in names})
        return policy.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def act(
        self, states: Tensor, latents: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Actions inside the action space (section 4.2, policy execution).

        Args:
            states: Raw, shape (E, S).
            latents: Shape (E, Z).
            generator: Draws from the policy; None takes its mode.

        Returns:
            Shape (E, A), float32; indices (E, 1), int64, where actions are discrete.
        """
        return self.decoder.act(self.state_normaliser(states), latents, generator)


def bounds_to_json(bounds: Sequence[float]) -> JsonValue:
    """Action bounds as JSON, which has no infinity: None where there is no bound."""
    return [float(bound) if math.isfinite(bound) else None for bound in bounds]


def bounds_from_json(value: JsonValue, unbounded: float) -> list[float]:
    """The reverse of `bounds_to_json`: None becomes `unbounded`.

    Raises:
        ValueError: Not a list of numbers and None.
    """
    if not isinstance(value, list):
        raise ValueError(f"action bounds: got {value!r}, expected a list")
    return [unbounded if bound is None else _number(bound, "action bounds") for bound in value]


def _integer(details: Mapping[str, JsonValue], name: str) -> int:
    value = details[name]
    if not isinstance(value, int):
        raise ValueError(f"{name}: got {value!r}, expected an integer")
    return value


def _real(details: Mapping[str, JsonValue], name: str) -> float:
    return _number(details[name], name)


def _number(value: JsonValue, name: str) -> float:
    if not isinstance(value, int | float):
        raise ValueError(f"{name}: got {value!r}, expected a number")
    return float(value)
