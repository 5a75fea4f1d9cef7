"""Draws, and what a prior gives for them, in few words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import SamplingConfig
from ldcq.latent_prior import Draw, LatentPrior

Rows = Tensor | NDArray[Any]
DEFAULTS = SamplingConfig()


def draw(
    states: Rows,
    candidates: int,
    *,
    seed: int = 0,
    options: SamplingConfig = DEFAULTS,
    goals: Rows | None = None,
) -> Draw:
    """Of states (N, S) and goals (N, G), tensors on the CPU or arrays of any precision."""
    given = None if goals is None else np.asarray(goals, np.float32)
    return Draw(np.asarray(states, np.float32), candidates, options, seed, given)


def latents(
    prior: LatentPrior,
    states: Rows,
    candidates: int,
    options: SamplingConfig = DEFAULTS,
    seed: int = 0,
    goals: Rows | None = None,
) -> Tensor:
    """What a prior gives for one draw, (N, n, Z)."""
    asked = draw(states, candidates, seed=seed, options=options, goals=goals)
    return torch.tensor(prior.sample(asked).latents)
