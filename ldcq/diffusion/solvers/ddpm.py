"""Ancestral sampling, Algorithm 1 lines 5-8 (Ho et al. 2020)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ldcq.diffusion.solvers.base import Step, trailing_timesteps


def plan(alpha_bar: NDArray[np.float64], steps: int) -> tuple[Step, ...]:
    """Algorithm 1 line 8: z_{t-1} ~ N(m(z_t, z0_hat), 1(t > 1) beta_t I).

        m = sqrt(alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) z_t
            + sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) z0_hat

    With fewer steps than T the chain is respaced: "t-1" is the next time kept, and alpha_t =
    alpha_bar_t / alpha_bar_{t-1}. The variance stays beta_t: on mixtures of two Gaussians, with the
    exact z0_hat as with a learned one, 20 steps with the posterior's variance instead come out
    with two thirds of the modes' width, with beta_t within a tenth of it.
    """
    steps_taken = []
    times = trailing_timesteps(len(alpha_bar) - 1, steps)
    for time, after in zip(times, (*times[1:], 0), strict=True):
        now, then = float(alpha_bar[time]), float(alpha_bar[after])
        alpha = now / then
        beta = 1 - alpha
        steps_taken.append(
            Step(
                time=time,
                latent=math.sqrt(alpha) * (1 - then) / (1 - now),
                clean=math.sqrt(then) * beta / (1 - now),
                noise=math.sqrt(beta) if after > 0 else 0.0,
            )
        )
    return tuple(steps_taken)
