"""A sum tree: indices drawn in proportion to priorities in O(log N) (Schaul et al. 2015, B.2.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SumTree:
    """Non-negative priorities over 0..size-1 whose partial sums are kept in a complete binary tree.

    Every inner node is always the sum of its two children as they are, never an accumulated
    difference: the tree is a function of its leaves, does not drift, and a tree rebuilt from saved
    leaves equals the original bit for bit.
    """

    def __init__(self, priorities: NDArray[np.float64]) -> None:
        """Builds the tree in O(N).

        Args:
            priorities: Initial priorities, (N,), finite and not negative.

        Raises:
            ValueError: Empty, negative or not finite priorities.
        """
        _check(priorities)
        self.size = len(priorities)
        self._capacity = 1 << max(0, self.size - 1).bit_length()
        self._depth = self._capacity.bit_length() - 1
        self._nodes = np.zeros(2 * self._capacity)
        self._nodes[self._capacity : self._capacity + self.size] = priorities
        level = self._capacity
        while level > 1:
            children = self._nodes[level : 2 * level]
            self._nodes[level // 2 : level] = children[0::2] + children[1::2]
            level //= 2

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    @property
    def priorities(self) -> NDArray[np.float64]:
        """A copy of all priorities, (N,)."""
        return self._nodes[self._capacity : self._capacity + self.size].copy()

    def get(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Priorities of some indices, (B,)."""
        return self._nodes[self._capacity + indices]

    def set(self, indices: NDArray[np.int64], priorities: NDArray[np.float64]) -> None:
        """Replaces the priorities of some indices; of a repeated index the last one counts.

        Args:
            indices: In 0..N-1, (B,).
            priorities: Finite and not negative, (B,).

        Raises:
            ValueError: Negative or not finite priorities.
            IndexError: An index out of range.
        """
        if not len(indices):
            return
        _check(priorities)
        if indices.min() < 0 or indices.max() >= self.size:
            raise IndexError(
                f"indices are {indices.min()}..{indices.max()}, expected 0..{self.size - 1}"
            )
        nodes = self._capacity + indices
        self._nodes[nodes] = priorities
        for _ in range(self._depth):
            nodes = nodes >> 1
            # Siblings write their parent twice, with the same sum.
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, masses: NDArray[np.float64]) -> NDArray[np.int64]:
        """The indices whose interval of the cumulative sum holds the given masses.

        Args:
            masses: In [0, total), (B,).

        Returns:
            The smallest i with priority_0 + .. + priority_i > mass, (B,); never one of priority 0.

        Raises:
            ValueError: All priorities are 0.
        """
        if len(masses) and self.total <= 0:
            raise ValueError("all priorities are 0, expected a positive one to draw from")
        rest = masses.astype(np.float64)
        nodes = np.ones(len(masses), dtype=np.int64)
        for _ in range(self._depth):
            left = 2 * nodes
            left_mass = self._nodes[left]
            # A mass rounded up to the very end of a subtree must not fall into leaves of priority
            # 0.
            right = (rest >= left_mass) & (self._nodes[left + 1] > 0)
            rest = np.where(right, rest - left_mass, rest)
            nodes = left + right
        return nodes - self._capacity


def _check(priorities: NDArray[np.float64]) -> None:
    if not len(priorities):
        raise ValueError("no priorities were given, expected at least one")
    if not (np.isfinite(priorities).all() and (priorities >= 0).all()):
        raise ValueError(
            "priorities hold a negative or non-finite value, expected finite values >= 0"
        )
