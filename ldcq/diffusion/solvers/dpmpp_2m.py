"""Second-order multistep sampling: DPM-Solver++(2M) (Lu et al. 2022, algorithm 2)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ldcq.diffusion.solvers.base import Step, trailing_timesteps
from ldcq.diffusion.solvers.ddim import step_between


def plan(alpha_bar: NDArray[np.float64], steps: int) -> tuple[Step, ...]:
    """DDIM's steps with z0_hat extrapolated to the middle of the step, in half log SNR lambda:

        D = z0_hat + (z0_hat - z0_hat_before) / (2 r),
        r = (lambda - lambda_before) / (lambda_next - lambda)

    The first step has nothing to extrapolate from and the last, to lambda = infinity, no middle:
    both are DDIM's. With 1 or 2 steps that is all of them. As with DDIM, a sampling temperature
    scales the noise that sampling starts from only.
    """
    times = trailing_timesteps(len(alpha_bar) - 1, steps)
    after = (*times[1:], 0)
    planned = [step_between(alpha_bar, *pair) for pair in zip(times, after, strict=True)]
    for index in range(1, steps - 1):
        before, now, then = (
            _half_log_snr(alpha_bar, time)
            for time in (times[index - 1], times[index], after[index])
        )
        excess = planned[index].clean * (then - now) / (2 * (now - before))
        planned[index] = replace(
            planned[index], clean=planned[index].clean + excess, previous=-excess
        )
    return tuple(planned)


def _half_log_snr(alpha_bar: NDArray[np.float64], time: int) -> float:
    kept = float(alpha_bar[time])
    return 0.5 * math.log(kept / (1 - kept))
