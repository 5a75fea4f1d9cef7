"""Ancestral sampling, Algorithm 1 lines 5-8 (Ho et al. 2020)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from services.prior.solvers.base import Step, trailing_timesteps


def ddpm(alpha_bar: NDArray[np.float64], steps: int) -> tuple[Step, ...]:
    """Algorithm 1 line 8: z_{t-1} ~ N(m(z_t, z0_hat), 1(t > 1) beta_t I).

        m = sqrt(alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) z_t
            + sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) z0_hat

    With fewer steps than T the chain is respaced: "t-1" is the next time kept, alpha_t =
    alpha_bar_t / alpha_bar_{t-1}, and the variance is the posterior's, beta_t (1 - alpha_bar_{t-1})
    / (1 - alpha_bar_t). The two agree where steps are small; over large ones beta_t adds more noise
    than the next time has, which smears the samples out. All T steps are Algorithm 1 to the letter.
    """
    training_steps = len(alpha_bar) - 1
    times = trailing_timesteps(training_steps, steps)
    plan = []
    for time, after in zip(times, (*times[1:], 0), strict=True):
        now, then = float(alpha_bar[time]), float(alpha_bar[after])
        alpha = now / then
        beta = 1 - alpha
        variance = beta if steps == training_steps else beta * (1 - then) / (1 - now)
        plan.append(
            Step(
                time=time,
                latent=math.sqrt(alpha) * (1 - then) / (1 - now),
                clean=math.sqrt(then) * beta / (1 - now),
                noise=math.sqrt(variance) if after > 0 else 0.0,
            )
        )
    return tuple(plan)
