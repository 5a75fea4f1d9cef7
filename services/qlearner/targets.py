"""Targets of the temporal-difference update (section 4.2, Eq. 8, Algorithm 1)."""

from __future__ import annotations

from torch import Tensor


def bellman_target(reward: Tensor, discount: Tensor, candidate_values: Tensor) -> Tensor:
    """Batch-constrained temporal-difference target (Eq. 8, Algorithm 1 line 10).

    Args:
        reward: r_{t:t+H}, discounted sum over the window, shape (B,).
        discount: gamma^H, or 0 where the episode ended inside the window, shape (B,).
        candidate_values: min over the two target critics at s_{t+H}, shape (B, n).

    Returns:
        y, shape (B,).
    """
    return reward + discount * candidate_values.amax(dim=1)
