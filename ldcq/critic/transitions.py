"""The windows a critic or a world model learns from: rows of the latent table, and their arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.data.episodes import Allocate
from ldcq.data.latents import LatentTable
from ldcq.learning.batches import generator, on_device, take
from ldcq.nn.normaliser import Normaliser

BLOCK_BYTES = 1 << 21
"""Of windows that are looked at together where all are."""
COLUMNS = ("state", "latent_mean", "latent_std", "reward", "discount", "next_state")
OPTIONAL = ("part_reward", "part_state", "end_seen")

Rows = NDArray[np.int64] | slice


class Outcome(NamedTuple):
    """What latents come to after each of K numbers of steps, in raw units.

    Attributes:
        states: s_{t+k}, (..., K, S).
        rewards: r_{t:t+k}, discounted sums, (..., K).
        discounts: gamma^k, or 0 where the episode ended within the k steps, (..., K).
        seen: 1 where s_{t+k} was recorded, else 0, (..., K); None: all were.
    """

    states: Tensor
    rewards: Tensor
    discounts: Tensor
    seen: Tensor | None = None


@dataclass(frozen=True)
class Transitions:
    """Transition tuples (s_t, q(z | tau), r_{t:t+H}, s_{t+H}) of Algorithm 1, in raw units.

    Attributes:
        state: s_t, (M, S).
        latent_mean: Mean of q(z | tau), (M, Z).
        latent_std: Standard deviation of q(z | tau), (M, Z).
        reward: Discounted sum over the window, (M,).
        discount: gamma^H, or 0 after a true termination, (M,).
        next_state: s_{t+H}, (M, S).
        used_on: Where batches go; None: they stay where the windows are.
        part_reward: r_{t:t+k}, for K - 1 numbers k < H, (M, K - 1); None where latents are valued
            for H steps only.
        part_state: s_{t+k}, (M, K - 1, S); None likewise.
        end_seen: 1 where s_{t+H} was recorded, else 0, (M,); None: all were.
    """

    state: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    reward: Tensor
    discount: Tensor
    next_state: Tensor
    used_on: torch.device | None = None
    part_reward: Tensor | None = None
    part_state: Tensor | None = None
    end_seen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self.used_on or self.state.device

    @property
    def columns(self) -> dict[str, Tensor]:
        """Those there are, by name."""
        names = (name for name in (*COLUMNS, *OPTIONAL) if getattr(self, name) is not None)
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(
        cls,
        table: LatentTable,
        rows: NDArray[np.int64],
        device: torch.device,
        allocate: Allocate = np.empty,
    ) -> Transitions:
        """Copies some windows, with all numbers of a window side by side: on disk, one read.

        Args:
            table: All windows.
            rows: Which.
            device: Where batches go; the windows as well, unless they are mapped.
            allocate: Makes the array that holds them.
        """
        names = [name for name in (*COLUMNS, *OPTIONAL) if name in table.columns]
        columns = [table.columns[name] for name in names]
        widths = [int(np.prod(column.shape[1:], dtype=np.int64)) for column in columns]
        records = allocate((len(rows), sum(widths)), np.float32)
        step = _block_rows(sum(widths))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            parts = [column[block].reshape(len(block), -1) for column in columns]
            np.concatenate(parts, axis=1, out=records[start : start + step])
        parted = on_device(records, device).split(widths, dim=1)  # type: ignore[no-untyped-call]
        shaped = {
            name: part.unflatten(1, column.shape[1:]) if column.ndim > 1 else part[:, 0]
            for name, part, column in zip(names, parted, columns, strict=True)
        }
        return cls(**shaped, used_on=device)

    def batch(self, rows: Rows) -> Transitions:
        """Some windows, (B, ...) each."""
        taken = {name: take(column, rows, self.device) for name, column in self.columns.items()}
        return replace(self, used_on=None, **taken)

    def next_states(self, rows: Rows) -> NDArray[np.float32]:
        """s_{t+H} of some windows, (B, S)."""
        return take(self.next_state, rows, torch.device("cpu")).numpy()

    def by_length(self, lengths: Sequence[int], discount: float) -> Outcome:
        """What executing each latent comes to, for every number of steps; the last is H.

        Args:
            lengths: k < H, one for each column of `part_reward`.
            discount: gamma.
        """
        discounts = self.discount.unsqueeze(1)
        seen = None if self.end_seen is None else self.end_seen.unsqueeze(1)
        if self.part_reward is None or self.part_state is None:
            return Outcome(self.next_state.unsqueeze(1), self.reward.unsqueeze(1), discounts, seen)
        if seen is not None:
            inside = seen.new_ones(self.part_reward.shape)
            seen = torch.cat([inside, seen], dim=1)
        # Filled on the device: a copy from the host would not become part of a captured update.
        shorter = [torch.full_like(discounts, discount**k) for k in lengths]
        return Outcome(
            torch.cat([self.part_state, self.next_state.unsqueeze(1)], dim=1),
            torch.cat([self.part_reward, self.reward.unsqueeze(1)], dim=1),
            torch.cat([*shorter, discounts], dim=1),
            seen,
        )

    def draw_latents(self, source: torch.Generator) -> Tensor:
        """Draws z ~ q(z | tau) of every window, (M, Z) (Algorithm 1, line 4)."""
        # Drawn on the CPU, so that the noise does not depend on the device.
        noise = torch.randn(self.latent_mean.shape, generator=source)
        return self.latent_mean + self.latent_std * noise.to(self.latent_mean.device)


def normalisers(
    transitions: Transitions, rows: NDArray[np.int64] | None = None
) -> tuple[Normaliser, Normaliser]:
    """Of the windows' states, and of their latents z ~ q(z | tau); of all of them, or of `rows`."""
    split = transitions.batch(slice(0, 1)).state.shape[1]
    mean, std = moments(
        transitions,
        lambda block: torch.cat([block.state, block.latent_mean], dim=1),
        lambda block: torch.cat([torch.zeros_like(block.state), block.latent_std], dim=1),
        rows,
    )
    return (
        Normaliser.of(mean[:split], std[:split]),
        Normaliser.of(mean[split:], std[split:]),
    )


def moments(
    transitions: Transitions,
    values: Callable[[Transitions], Tensor],
    deviations: Callable[[Transitions], Tensor],
    rows: NDArray[np.int64] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over windows, looked at one block after the other.

    Args:
        transitions: Windows, at least one.
        values: What of a block, (B, D).
        deviations: Each value is the mean of a distribution with this standard deviation, (B, D).
        rows: Which windows; None: all.

    Returns:
        Mean and standard deviation, on the CPU in double precision, (D,) each.
    """
    width = values(transitions.batch(slice(0, 1))).shape[1]
    count, step = len(transitions if rows is None else rows), _block_rows(2 * width)

    def mean_of(function: Callable[[Transitions], Tensor]) -> Tensor:
        # Summed up in place: small results kept between large ones would fragment the heap.
        total = torch.zeros(width, dtype=torch.float64, device=transitions.device)
        for start in range(0, count, step):
            block = slice(start, start + step)
            total += function(transitions.batch(block if rows is None else rows[block])).sum(0)
        return total / count

    mean = mean_of(lambda block: values(block).double())
    variance = mean_of(
        lambda block: (values(block).double() - mean).square() + deviations(block).double().square()
    )
    return mean.cpu(), variance.sqrt().cpu()


def _block_rows(width: int) -> int:
    return max(BLOCK_BYTES // (4 * width), 1)


def training_rows(
    table: LatentTable, limit: int | None, seed: int, reward_share: float = 0.0
) -> NDArray[np.int64]:
    """Rows that enter the replay: the training windows, or `limit` of them drawn at random.

    Args:
        table: All windows, M.
        limit: Most rows to take; None: all.
        seed: Fixes the draw.
        reward_share: Share of `limit` drawn from the windows with a reward in them (all of those,
            where they are fewer); the rest come from the others.

    Returns:
        Rows of the table, ascending, (at most `limit`,) int64.

    Raises:
        DataError: The table has no training windows.
    """
    rows = table.training
    if limit is None or not reward_share:
        return _drawn(rows, limit, seed, "training")
    rewarded = table.reward[rows] != 0
    near = _drawn(rows[rewarded], round(reward_share * limit), seed, "rewarded")
    rest = _drawn(rows[~rewarded], limit - len(near), seed, "training")
    return np.sort(np.concatenate([near, rest]))


def validation_rows(table: LatentTable, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows of the fixed validation batch, (at most `limit`,); none where nothing was kept apart."""
    return _drawn(table.held_out, limit, seed, "validation")


def _drawn(
    rows: NDArray[np.int64], limit: int | None, seed: int, purpose: str
) -> NDArray[np.int64]:
    if limit is None or limit >= len(rows):
        return rows
    order = torch.randperm(len(rows), generator=generator(seed, "critic", "windows", purpose))
    return np.sort(rows[order[:limit].numpy()])
