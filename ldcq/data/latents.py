"""Every window as one transition in latent space: what all but the VAE learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldcq.data.episodes import Boolean, DataError, Float, Integer


@dataclass(frozen=True)
class LatentTable:
    """All windows with their latents, M rows; columns that do not fit into memory are mapped.

    Windows of an episode are neighbours, in order.

    Attributes:
        state: s_t, raw, (M, S).
        latent_mean: Mean of q(z | tau), (M, Z).
        latent_std: Standard deviation of q(z | tau), (M, Z).
        reward: r_{t:t+H}, the discounted sum over the window, (M,).
        discount: gamma^H, or 0 after a true termination inside the window, (M,).
        next_state: s_{t+H}, raw, (M, S).
        episode: Index of the episode, (M,).
        step: Of the window's start within the episode, (M,).
        validation: Whether the episode is kept from training, (M,).
        part_reward: r_{t:t+k} for each k < H of `lengths`, (M, K - 1); None without.
        part_state: s_{t+k}, raw, (M, K - 1, S); None without.
        end_seen: Whether s_{t+H} was recorded, (M,); None: all were. Else the episode terminated,
            and `next_state` repeats its last state.
    """

    state: Float
    latent_mean: Float
    latent_std: Float
    reward: Float
    discount: Float
    next_state: Float
    episode: Integer
    step: Integer
    validation: Boolean
    part_reward: Float | None = None
    part_state: Float | None = None
    end_seen: Boolean | None = None

    def __len__(self) -> int:
        return len(self.validation)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name."""
        return {name: column for name, column in vars(self).items() if column is not None}

    @property
    def training(self) -> Integer:
        """Rows of the training windows, ascending.

        Raises:
            DataError: There are none.
        """
        rows = np.flatnonzero(~self.validation)
        if not len(rows):
            raise DataError(
                f"latents: got {len(self)} windows, none of them for training; expected at least "
                "1: lower data.validation_fraction or add episodes"
            )
        return rows

    @property
    def held_out(self) -> Integer:
        """Rows of the validation windows, ascending; may be empty."""
        return np.flatnonzero(self.validation)
