"""Windows as transitions in latent space, which the prior and the critic learn (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ldcq.data.episodes import Boolean, Float
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Indices, Windows
from ldcq.vae.model import Vae


def discounted_rewards(rewards: Float, discount: float) -> Float:
    """r_{t:t+H} = sum_k gamma^k r_{t+k} (section 4.2).

    Args:
        rewards: Shape (B, H).
        discount: gamma, per environment step.

    Returns:
        Shape (B,).
    """
    weights = np.power(discount, np.arange(rewards.shape[1]))
    summed: Float = (rewards.astype(np.float64) @ weights).astype(np.float32)
    return summed


def bootstrap_discounts(terminated: Boolean, horizon: int, discount: float) -> Float:
    """What the value of s_{t+H} is weighted with: gamma^H, or 0 after a true termination.

    Args:
        terminated: Whether the window ended in a terminal state, not in a time limit, shape (B,).
        horizon: H.
        discount: gamma.

    Returns:
        Shape (B,).
    """
    return np.where(terminated, 0.0, discount**horizon).astype(np.float32)


def latent_table(
    vae: Vae, windows: Windows, rows: Indices, discount: float, lengths: Sequence[int] = ()
) -> LatentTable:
    """Encodes some windows.

    Args:
        vae: The trained model, in evaluation mode.
        windows: All windows.
        rows: Which.
        discount: gamma, per environment step.
        lengths: k < H, executed steps that latents are valued for beside H.
    """
    states, rewards = windows.states(rows), windows.rewards(rows)
    parts: dict[str, np.ndarray] = {}
    if lengths:
        sums = [discounted_rewards(rewards[:, :k], discount) for k in lengths]
        parts = {"part_reward": np.stack(sums, axis=1), "part_state": states[:, list(lengths)]}
    if not windows.episodes.ends_seen.all():
        parts["end_seen"] = windows.end_seen(rows)
    device = vae.state_normaliser.mean.device
    with torch.no_grad():
        posterior = vae.encode(
            torch.from_numpy(states).to(device), torch.from_numpy(windows.actions(rows)).to(device)
        )
    return LatentTable(
        state=states[:, 0],
        latent_mean=posterior.mean.cpu().numpy(),
        latent_std=posterior.std.cpu().numpy(),
        reward=discounted_rewards(rewards, discount),
        discount=bootstrap_discounts(windows.terminated(rows), windows.horizon, discount),
        next_state=windows.next_states(rows),
        episode=windows.episode[rows],
        step=windows.step[rows],
        validation=windows.validation[rows],
        **parts,
    )
