"""A published prior, loaded and warm: what the server answers from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from common.config import SamplingConfig
from common.store import Artifact
from services.prior.protocol import Description, Sampler, find_prior, sample


@dataclass(frozen=True)
class ServedPrior:
    """One model version, ready to draw from.

    Attributes:
        version: The artifact's.
        implementation: The name it is registered under.
        vae_version: The VAE whose latents it draws.
        state_dim: S.
        latent_dim: Z.
        description: What its sampler takes.
        sampler: Draws.
        device: Where `sampler` expects states.
    """

    version: str
    implementation: str
    vae_version: str
    state_dim: int
    latent_dim: int
    description: Description
    sampler: Sampler
    device: torch.device


def load_prior(artifact: Artifact, device: torch.device) -> ServedPrior:
    """Rebuilds a prior from its artifact alone and draws from it once, so that no call pays for it.

    Args:
        artifact: Of kind "prior".
        device: Where to compute.

    Raises:
        UnknownPriorError: Its implementation is not installed here.
    """
    meta = artifact.meta
    prior = find_prior(meta.implementation).from_artifact(artifact)
    prior.to(device).requires_grad_(False)
    served = ServedPrior(
        version=artifact.version,
        implementation=meta.implementation,
        vae_version=meta.parents.get("vae", ""),
        state_dim=meta.dimensions["state"],
        latent_dim=meta.dimensions["latent"],
        description=prior.describe(),
        sampler=prior.sampler(),
        device=device,
    )
    states = torch.zeros(1, served.state_dim, device=device)
    sample(served.sampler, states, 2, SamplingConfig(), seed=0)
    return served
