"""Deterministic sampling: DDIM with eta = 0 (Song et al. 2021)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ldcq.diffusion.solvers.base import Step, trailing_timesteps


def plan(alpha_bar: NDArray[np.float64], steps: int) -> tuple[Step, ...]:
    """The noise that z0_hat implies is kept, at the next time's scale:

        z_next = sqrt(alpha_bar_next) z0_hat
                 + sqrt(1 - alpha_bar_next) (z - sqrt(alpha_bar) z0_hat) / sqrt(1 - alpha_bar)

    No noise is added, so a sampling temperature scales nothing but the noise that sampling starts
    from.
    """
    times = trailing_timesteps(len(alpha_bar) - 1, steps)
    return tuple(
        step_between(alpha_bar, time, after)
        for time, after in zip(times, (*times[1:], 0), strict=True)
    )


def step_between(alpha_bar: NDArray[np.float64], time: int, after: int) -> Step:
    """The step from `time` to `after`.

    Args:
        alpha_bar: The training schedule, shape (T + 1,).
        time: t of the current latent, 1 to T.
        after: t of the next, 0 to `time` - 1.

    Returns:
        The step, without noise; `after` = 0 takes z0_hat as it is.
    """
    now, then = float(alpha_bar[time]), float(alpha_bar[after])
    kept = math.sqrt((1 - then) / (1 - now))
    return Step(time=time, latent=kept, clean=math.sqrt(then) - math.sqrt(now) * kept)
