"""How to sample, with nothing left open: a request over the model's defaults over the paper's
choices, and the steps that this means.
"""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ldcq.config import SamplingConfig
from ldcq.diffusion.fast.split import Nulled
from ldcq.diffusion.solvers import SOLVERS, Step
from ldcq.latent_prior import OptionError

MAX_EXTRA_STEPS = 1000


class ResolvedOptions(SamplingConfig):
    """Sampling options with nothing left open."""

    solver: str
    steps: int
    guidance: float
    nulled: Nulled
    extra_steps: int
    temperature: float


def resolve_options(
    options: SamplingConfig, defaults: SamplingConfig, training_steps: int, goals: bool = False
) -> ResolvedOptions:
    """Fills what a request leaves out from the model's defaults, and the rest from the paper's.

    Args:
        options: The request's.
        defaults: The model's.
        training_steps: T.
        goals: Whether the model has goals; guidance then nulls the goal, unless told otherwise.

    Raises:
        OptionError: Unknown solver, more steps than T, a number out of range, a goal to null where
            there is none.
    """
    paper: dict[str, object] = {
        "solver": "ddpm",
        "steps": training_steps,
        "guidance": 1.0,
        "nulled": "goal" if goals else "state",
        "extra_steps": 0,
        "temperature": 1.0,
    }
    chosen = paper | defaults.model_dump(exclude_none=True) | options.model_dump(exclude_none=True)
    # Not validated here: below, messages say what this model takes.
    resolved = ResolvedOptions.model_construct(None, **chosen)
    if resolved.solver not in SOLVERS:
        raise OptionError("solver", resolved.solver, f"one of {', '.join(SOLVERS)}")
    if not 1 <= resolved.steps <= training_steps:
        raise OptionError("steps", resolved.steps, f"1 to {training_steps}, the steps of training")
    if resolved.nulled not in (get_args(Nulled) if goals else ("state",)):
        expected = ", ".join(get_args(Nulled)) if goals else "state: this prior has no goals"
        raise OptionError("nulled", resolved.nulled, expected)
    if not 0 <= resolved.extra_steps <= MAX_EXTRA_STEPS:
        raise OptionError("extra_steps", resolved.extra_steps, f"0 to {MAX_EXTRA_STEPS}")
    # In single precision, as they arrive over gRPC: here and there they give the same latents.
    weights = {
        field: float(np.float32(getattr(resolved, field))) for field in ("guidance", "temperature")
    }
    for field, value in weights.items():
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(field, value, "a finite number, at least 0")
    return resolved.model_copy(update=weights)


def plan_steps(options: ResolvedOptions, alpha_bar: NDArray[np.float64]) -> tuple[Step, ...]:
    """The solver's steps and after them Diffusion-X's, which take the sample for a z_1 once more
    (supplement E).

    At t = 1 the mean of Algorithm 1 is z0_hat itself and no noise is added.
    """
    extra = Step(time=1, latent=0.0, clean=1.0)
    return SOLVERS[options.solver](alpha_bar, options.steps) + (extra,) * options.extra_steps
