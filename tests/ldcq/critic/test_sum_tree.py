"""The sum tree against NumPy's cumulative sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldcq.critic.sum_tree import SumTree


@settings(max_examples=150, deadline=None)
@given(
    # Whole numbers: sums are exact in any order, so that both searches must agree to the index.
    st.lists(st.integers(0, 50), min_size=1, max_size=70).filter(any),
    st.integers(0, 2**32 - 1),
)
def test_find_agrees_with_searchsorted(weights: list[int], seed: int) -> None:
    priorities = np.array(weights, dtype=np.float64)
    masses = np.random.default_rng(seed).uniform(0, priorities.sum(), 40)
    expected = np.searchsorted(np.cumsum(priorities), masses, side="right")
    np.testing.assert_array_equal(SumTree(priorities).find(masses), expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_updates_equal_a_rebuilt_tree(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    priorities = rng.exponential(size=size)
    tree = SumTree(priorities)
    for _ in range(4):
        indices = rng.integers(0, size, 9)
        values = rng.exponential(size=9)
        tree.set(indices, values)
        for index, value in zip(
            indices, values, strict=True
        ):  # The last of a repeated index counts.
            priorities[index] = value
    rebuilt = SumTree(priorities)
    np.testing.assert_array_equal(tree.priorities, priorities)
    np.testing.assert_array_equal(tree.get(np.arange(size)), priorities)
    assert tree.total == rebuilt.total
    assert tree.total == pytest.approx(priorities.sum())
    masses = rng.uniform(0, tree.total, 30)
    np.testing.assert_array_equal(tree.find(masses), rebuilt.find(masses))


def test_draws_are_in_proportion() -> None:
    priorities = np.array([1.0, 0.0, 3.0, 6.0, 0.0])
    tree = SumTree(priorities)
    draws = tree.find(np.random.default_rng(0).uniform(0, tree.total, 100_000))
    counts = np.bincount(draws, minlength=5) / 100_000
    np.testing.assert_allclose(counts, priorities / 10, atol=0.01)
    assert counts[1] == counts[4] == 0


def test_a_mass_at_the_very_end_stays_on_a_positive_priority() -> None:
    tree = SumTree(np.array([0.1, 0.2, 0.0, 0.0, 0.0]))
    assert tree.find(np.array([tree.total])).tolist() == [1]


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SumTree(np.array([]))
    with pytest.raises(ValueError, match="non-finite"):
        SumTree(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="all priorities are 0"):
        SumTree(np.zeros(3)).find(np.zeros(1))
    tree = SumTree(np.ones(3))
    with pytest.raises(IndexError, match=r"expected 0\.\.2"):
        tree.set(np.array([3]), np.array([1.0]))
    with pytest.raises(ValueError, match="negative"):
        tree.set(np.array([0]), np.array([-1.0]))
    assert tree.total == 3
