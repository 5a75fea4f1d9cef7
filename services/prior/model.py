"""A published prior, loaded and warm: what the server answers from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.models import model_of
from common.store import Artifact
from ldcq.config import SamplingConfig
from ldcq.prior import (
    Description,
    Draw,
    JoiningSampler,
    Sampler,
    sample,
)
from ldcq.registry import find_prior

_LOG = logging.getLogger(__name__)
_AWKWARD = ((1, 1), (3, 7), (1, 64), (2, 50), (1, 500), (5, 13))
"""States and candidates of the calls that are tried."""


@dataclass(frozen=True)
class ServedPrior:
    """One model version, ready to draw from.

    Attributes:
        version: The artifact's.
        implementation: The name it is registered under.
        vae_version: The VAE whose latents it draws.
        state_dim: S.
        latent_dim: Z.
        goal_dim: G, 0 for a prior without goals.
        description: What its sampler takes.
        sampler: Draws.
        device: Where `sampler` expects states.
        joining: `sampler`, where it was seen to join calls without changing a bit; else None.
    """

    version: str
    implementation: str
    vae_version: str
    state_dim: int
    latent_dim: int
    description: Description
    sampler: Sampler
    device: torch.device
    joining: JoiningSampler | None = None
    goal_dim: int = 0


def load_prior(artifact: Artifact, device: torch.device) -> ServedPrior:
    """Rebuilds a prior from its artifact alone and draws from it: no call pays for the first time,
    and it is seen whether calls can be joined here.

    Args:
        artifact: Of kind "prior".
        device: Where to compute.

    Raises:
        UnknownPriorError: Its implementation is not installed here.
    """
    meta = artifact.meta
    prior = model_of(artifact, find_prior(meta.implementation), device)
    served = ServedPrior(
        version=artifact.version,
        implementation=meta.implementation,
        vae_version=meta.parents.get("vae", ""),
        state_dim=prior.dimensions.state,
        latent_dim=prior.dimensions.latent,
        description=prior.describe(),
        sampler=prior.sampler(),
        device=device,
        goal_dim=prior.dimensions.goal,
    )
    _drawn(served, _trial(served, 1, 2, 0), SamplingConfig())
    return replace(served, joining=_joining(served))


def _joining(model: ServedPrior) -> JoiningSampler | None:
    """The sampler, if calls that it joins get the bits that they get alone.

    Matrix libraries choose kernels by shape and processor, so what holds on one machine is not
    taken for granted on another: calls of awkward sizes are drawn alone, in twos and all together.
    """
    sampler = model.sampler
    if not isinstance(sampler, JoiningSampler):
        return None
    few = SamplingConfig(steps=min(2, model.description.training_steps))
    draws = [_trial(model, states, n, seed) for seed, (states, n) in enumerate(_AWKWARD)]
    alone = [_drawn(model, draw, few) for draw in draws]
    with torch.inference_mode():
        for count in (1, 2, len(draws)):
            joined = sampler.join(draws[:count], few)
            expected = torch.cat([latents.flatten(0, 1) for latents in alone[:count]])
            if not torch.equal(joined, expected):
                _LOG.warning(
                    "calls are computed one by one: joined, their last bits differ on this machine"
                )
                return None
    return sampler


def _trial(model: ServedPrior, states: int, candidates: int, seed: int) -> Draw:
    source = torch.Generator().manual_seed(seed)
    rows, goals = (
        torch.randn(states, width, generator=source).to(model.device)
        for width in (model.state_dim, model.goal_dim)
    )
    return Draw(rows, candidates, seed, goals if model.goal_dim else None)


def _drawn(model: ServedPrior, draw: Draw, options: SamplingConfig) -> Tensor:
    return sample(model.sampler, draw.states, draw.candidates, options, draw.seed, draw.goals)
