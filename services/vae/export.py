"""Writes what the later stages learn from: every window as one transition in latent space."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from common.store import LatentWriter, Meta, Stopped, Store
from ldcq.data.windows import Windows
from ldcq.vae.model import Vae

ROWS = 1024
"""Windows encoded at once."""

Columns = dict[str, npt.NDArray[np.generic]]


def discounted_rewards(
    rewards: npt.NDArray[np.float32], discount: float
) -> npt.NDArray[np.float32]:
    """r_{t:t+H} = sum_k gamma^k r_{t+k} (section 4.2).

    Args:
        rewards: Shape (B, H).
        discount: gamma, per environment step.

    Returns:
        Shape (B,).
    """
    weights = np.power(discount, np.arange(rewards.shape[1]))
    summed: npt.NDArray[np.float32] = (rewards.astype(np.float64) @ weights).astype(np.float32)
    return summed


def bootstrap_discounts(
    terminated: npt.NDArray[np.bool_], horizon: int, discount: float
) -> npt.NDArray[np.float32]:
    """What the value of s_{t+H} is weighted with: gamma^H, or 0 after a true termination.

    Args:
        terminated: Whether the window ended in a terminal state, not in a time limit, shape (B,).
        horizon: H.
        discount: gamma.

    Returns:
        Shape (B,).
    """
    return np.where(terminated, 0.0, discount**horizon).astype(np.float32)


def transitions(vae: Vae, windows: Windows, rows: slice, discount: float) -> Columns:
    """The columns of a latent table for some windows.

    Args:
        vae: The trained model.
        windows: All windows.
        rows: Which.
        discount: gamma, per environment step.
    """
    states = windows.states(rows)
    device = vae.state_normaliser.mean.device
    with torch.no_grad():
        posterior = vae.encode(
            torch.from_numpy(states).to(device), torch.from_numpy(windows.actions(rows)).to(device)
        )
    return {
        "state": states[:, 0],
        "latent_mean": posterior.mean.cpu().numpy(),
        "latent_std": posterior.std.cpu().numpy(),
        "reward": discounted_rewards(windows.rewards(rows), discount),
        "discount": bootstrap_discounts(windows.terminated(rows), windows.horizon, discount),
        "next_state": windows.next_states(rows),
        "episode": windows.episode[rows],
        "step": windows.step[rows],
        "validation": windows.validation[rows],
    }


def write_latents(
    store: Store,
    meta: Meta,
    vae: Vae,
    windows: Windows,
    discount: float,
    *,
    variant: str,
    on_progress: Callable[[int, int], None],
    stop: threading.Event,
) -> str:
    """Encodes all windows and publishes them as one latent table.

    Args:
        store: Where.
        meta: What the table says about itself; names the VAE and the dataset.
        vae: The trained model.
        windows: What is encoded, training and validation windows alike.
        discount: gamma, per environment step.
        variant: Whose pointer to set.
        on_progress: Told the windows written and the windows in all.
        stop: Set to give up.

    Returns:
        The table's version.

    Raises:
        Stopped: `stop` was set; nothing was published.
        StoreError: Another process writes this table, or the disk does not take it.
    """
    states, latents = vae.dimensions.state, vae.dimensions.latent
    columns: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
        "state": (np.float32, (states,)),
        "latent_mean": (np.float32, (latents,)),
        "latent_std": (np.float32, (latents,)),
        "reward": (np.float32, ()),
        "discount": (np.float32, ()),
        "next_state": (np.float32, (states,)),
        "episode": (np.int64, ()),
        "step": (np.int64, ()),
        "validation": (np.bool_, ()),
    }
    vae.eval()
    with LatentWriter(store, meta, len(windows), columns) as writer:
        for start in range(0, len(windows), ROWS):
            if stop.is_set():
                raise Stopped("asked to stop while writing latents")
            end = min(start + ROWS, len(windows))
            writer.write(start, **transitions(vae, windows, slice(start, end), discount))
            on_progress(end, len(windows))
        return writer.publish(variant)
