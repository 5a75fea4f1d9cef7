"""Noise schedules of the forward process q(z_t | z_0) (section 3.1, Eq. 1): pure functions of
T, in float64.

Arrays over time have T + 1 entries, so that index t is the paper's t: `alpha_bar[0]` is 1 (the
clean latent), `alpha_bar[T]` is close to 0 at every T, because sampling starts from N(0, I).
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

Schedule = Literal["linear", "cosine"]
Array = NDArray[np.float64]

BETA_MIN, BETA_MAX = 0.1, 20.0
"""1,000 times the DDPM schedule's 1e-4 and 0.02: its rates per unit of continuous time."""

MAX_BETA = 0.9995
"""Cap of a cosine step. 0.999 is usual, but would leave sqrt(alpha_bar_T) at 0.022 for T = 2."""


def alpha_bars(schedule: Schedule, steps: int) -> Array:
    """The products alpha_bar_0 ... alpha_bar_T of a schedule.

    `linear`: beta grows linearly (Ho et al. 2020). Taken as it stands it reaches noise at T = 1000
    only, so its rate beta(u), u = t / T, is integrated in continuous time: alpha_bar_t =
    exp(-int_0^{t/T} beta(u) du), which is the 1000-step schedule resampled. `cosine`: Nichol and
    Dhariwal (2021), each beta at most `MAX_BETA`.

    Args:
        schedule: Its name.
        steps: T, at least 2.

    Returns:
        alpha_bar, shape (T + 1,), strictly decreasing from 1; sqrt(alpha_bar_T) is below 0.02.

    Raises:
        ValueError: T is below 2.
    """
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected at least 2")
    time = np.arange(steps + 1, dtype=np.float64) / steps
    match schedule:
        case "linear":
            return np.exp(-(BETA_MIN * time + 0.5 * (BETA_MAX - BETA_MIN) * time**2))
        case "cosine":
            shape = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
            kept = np.maximum(shape[1:] / shape[:-1], 1 - MAX_BETA)
            return np.concatenate([np.ones(1), np.cumprod(kept)])
        case _:
            assert_never(schedule)


def signal_to_noise(alpha_bar: Array) -> Array:
    """SNR(t) = alpha_bar_t / (1 - alpha_bar_t) for t = 1 ... T.

    Args:
        alpha_bar: Shape (T + 1,).

    Returns:
        Shape (T,); entry t - 1 belongs to t.
    """
    return np.asarray(alpha_bar[1:] / (1 - alpha_bar[1:]))


def min_snr_weights(alpha_bar: Array, gamma: float) -> Array:
    """min{SNR(t), gamma}, the weights of Eq. 5 (z_0 prediction).

    Args:
        alpha_bar: Shape (T + 1,).
        gamma: The bound, 5 in the paper.

    Returns:
        Shape (T,); entry t - 1 belongs to t.
    """
    return np.minimum(signal_to_noise(alpha_bar), gamma)
