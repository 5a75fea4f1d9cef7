"""beta_t, by which diffusers' schedulers are given a schedule."""

from __future__ import annotations

import numpy as np

from ldcq.diffusion.schedule import Array


def betas(alpha_bar: Array) -> Array:
    """beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} for t = 1 ... T.

    Args:
        alpha_bar: Shape (T + 1,).

    Returns:
        Shape (T,); entry t - 1 belongs to t.
    """
    return np.asarray(1 - alpha_bar[1:] / alpha_bar[:-1])
