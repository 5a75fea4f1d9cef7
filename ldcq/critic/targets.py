"""Targets of the temporal-difference update (section 4.2, Eq. 8)."""

from __future__ import annotations

from torch import Tensor

from ldcq.critic.critic import Critic
from ldcq.critic.screening import screened_max


def max_min_target(
    critic: Critic, reward: Tensor, discount: Tensor, next_state: Tensor, candidates: Tensor
) -> Tensor:
    """Y = r_{t:t+H} + gamma^H max_z min_j Q_j(s_{t+H}, z) (Eq. 8, Algorithm 1 line 10).

    The minimum over both critics is clipped double Q-learning (Fujimoto et al. 2018); the maximum
    is over latents that the prior supports, and over nothing else.

    Args:
        critic: The target critics.
        reward: r_{t:t+H}, discounted sum over the window, scaled as the critics learn it, (B,).
        discount: gamma^H, or 0 where the episode ended inside the window, (B,).
        next_state: s_{t+H}, raw, (B, S).
        candidates: z ~ p(z | s_{t+H}), raw, (B, n, Z).

    Returns:
        y, in units of scaled rewards, (B,).
    """
    if next_state.device.type == "cpu":
        best = screened_max(critic, next_state, candidates)
    else:  # There, ruling candidates out takes longer than looking at all of them.
        best = critic.min_q(next_state, candidates).amax(dim=1)
    return reward + discount * best
