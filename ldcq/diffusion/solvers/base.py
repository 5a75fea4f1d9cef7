"""What all solvers share: the step they plan and the spacing of time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """One denoising step: z_next = latent z + clean z0_hat + previous z0_hat_before + noise eps,
    eps ~ N(0, I).

    Attributes:
        time: t of `z`, from T down to 1, which the denoiser is asked at.
        latent: Coefficient of the current latent z.
        clean: Coefficient of the prediction z0_hat at this step.
        previous: Coefficient of the prediction of the step before (multistep solvers).
        noise: Standard deviation of the noise added; 0: the step needs none.
    """

    time: int
    latent: float
    clean: float
    previous: float = 0.0
    noise: float = 0.0


class Solver(Protocol):
    """Plans `steps` steps from z_T ~ N(0, I) to z_0."""

    def __call__(self, alpha_bar: NDArray[np.float64], steps: int) -> tuple[Step, ...]:
        """The steps in the order they are taken.

        Args:
            alpha_bar: The training schedule, shape (T + 1,), alpha_bar[0] = 1.
            steps: From 1 to T.

        Returns:
            `steps` steps, the first at t = T, the last ending at z_0 without noise.

        Raises:
            ValueError: `steps` is out of range.
        """
        ...


def trailing_timesteps(training_steps: int, steps: int) -> tuple[int, ...]:
    """`steps` times from T downwards, evenly spaced so that the first is T ("trailing" spacing, Lin
    et al. 2023).

    Starting anywhere else than at T would start from noise that training never saw there.

    Args:
        training_steps: T.
        steps: From 1 to T.

    Returns:
        Strictly decreasing times, each from 1 to T.

    Raises:
        ValueError: `steps` is out of range.
    """
    if not 1 <= steps <= training_steps:
        raise ValueError(f"steps is {steps}, expected 1 to {training_steps}")
    times = np.round(np.arange(training_steps, 0, -training_steps / steps)).astype(int)
    return tuple(times[:steps].tolist())
