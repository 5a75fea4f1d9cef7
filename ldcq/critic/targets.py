"""Targets of the temporal-difference update (section 4.2, Eq. 8, Algorithm 1)."""

from __future__ import annotations

from torch import Tensor


def bellman_target(reward: Tensor, discount: Tensor, best_value: Tensor) -> Tensor:
    """Batch-constrained temporal-difference target (Eq. 8, Algorithm 1 line 10).

    Args:
        reward: r_{t:t+H}, discounted sum over the window, shape (B,).
        discount: gamma^H, or 0 where the episode ended inside the window, shape (B,).
        best_value: max_z min_j Q_j(s_{t+H}, z) by the target critics, shape (B,).

    Returns:
        y, shape (B,).
    """
    return reward + discount * best_value
