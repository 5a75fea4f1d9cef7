"""A published prior, loaded and warm: what the server answers from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from common.models import sampler_of
from common.store import Artifact
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description, Draw
from ldcq.prior import JoiningSampler, Sampler

_LOG = logging.getLogger(__name__)
_AWKWARD = ((1, 1), (3, 7), (1, 64), (2, 50), (1, 500), (5, 13))
"""States and candidates of the calls that are tried."""


@dataclass(frozen=True)
class ServedPrior:
    """One model version, ready to draw from.

    Attributes:
        description: What it says of itself, with its version.
        sampler: Draws.
        joining: `sampler`, where it was seen to join draws without changing a bit; else None.
    """

    description: Description
    sampler: Sampler
    joining: JoiningSampler | None = None


def load_prior(artifact: Artifact, device: torch.device) -> ServedPrior:
    """Rebuilds a prior from its artifact alone and draws from it: no call pays for the first time,
    and it is seen whether calls can be joined here.

    Raises:
        UnknownPriorError: Its implementation is not installed here.
    """
    meta = artifact.meta
    sampler = sampler_of(artifact, device)
    description = replace(
        sampler.describe(),
        implementation=meta.implementation,
        model_version=artifact.version,
        vae_version=meta.parents.get("vae", ""),
    )
    sampler.sample(_trial(description, 1, 2, 0))
    return ServedPrior(description, sampler, _joining(sampler, description))


def _joining(sampler: Sampler, description: Description) -> JoiningSampler | None:
    """The sampler, if draws that it joins get the bits that they get alone.

    Matrix libraries choose kernels by shape and processor, so what holds on one machine is not
    taken for granted on another: draws of awkward sizes are computed alone, in twos and all
    together.
    """
    if not isinstance(sampler, JoiningSampler):
        return None
    few = sampler.resolve(SamplingConfig(steps=min(2, description.training_steps)))
    draws = [
        replace(_trial(description, states, n, seed), options=few)
        for seed, (states, n) in enumerate(_AWKWARD)
    ]
    with torch.inference_mode():
        alone = [torch.cat(list(sampler.blocks(draw))) for draw in draws]
        for count in (1, 2, len(draws)):
            if not torch.equal(sampler.join(draws[:count]), torch.cat(alone[:count])):
                _LOG.warning(
                    "calls are computed one by one: joined, their last bits differ on this machine"
                )
                return None
    return sampler


def _trial(description: Description, states: int, candidates: int, seed: int) -> Draw:
    random = np.random.default_rng(seed)
    rows, goals = (
        random.standard_normal((states, width), np.float32)
        for width in (description.state_dim, description.goal_dim)
    )
    return Draw(rows, candidates, SamplingConfig(), seed, goals if description.goal_dim else None)
