"""Batches and generators are functions of seed, names and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.learning.batches import BatchSampler, epoch_indices, evenly_spread, generator


def test_an_epoch_visits_every_item_once() -> None:
    sampler = BatchSampler(20, 5, 0, "vae")
    assert sampler.steps_per_epoch == 4
    first = torch.cat([sampler.indices(step) for step in range(4)])
    second = torch.cat([sampler.indices(step) for step in range(4, 8)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()
    assert first.dtype == torch.int64
    assert torch.equal(first, epoch_indices(20, 0, 0, "vae"))


def test_the_incomplete_batch_is_dropped() -> None:
    sampler = BatchSampler(23, 5, 0)
    assert sampler.steps_per_epoch == 4
    assert {len(sampler.indices(step)) for step in range(9)} == {5}


def test_a_batch_depends_on_its_step_alone() -> None:
    forward, backward = BatchSampler(20, 5, 3, "a"), BatchSampler(20, 5, 3, "a")
    steps = range(12)
    expected = [forward.indices(step).tolist() for step in steps]
    assert [backward.indices(step).tolist() for step in reversed(steps)] == expected[::-1]
    assert BatchSampler(20, 5, 4, "a").indices(0).tolist() != expected[0]
    assert BatchSampler(20, 5, 3, "b").indices(0).tolist() != expected[0]


def test_few_items_are_one_batch() -> None:
    sampler = BatchSampler(3, 128, 0)
    assert sampler.steps_per_epoch == 1
    assert sorted(sampler.indices(5).tolist()) == [0, 1, 2]


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="count: got 0, expected at least 1"):
        BatchSampler(0, 4, 0)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        BatchSampler(4, 0, 0)


def test_generators_with_other_names_are_independent() -> None:
    names: list[tuple[str | int, ...]] = [(), ("a",), ("b",), ("a", "b"), ("ab",), (1,), ("1",)]
    draws = [torch.rand(4, generator=generator(0, *name)).tolist() for name in names]
    draws.append(torch.rand(4, generator=generator(1)).tolist())
    assert len({tuple(draw) for draw in draws}) == len(draws)
    assert torch.rand(4, generator=generator(0, "a")).tolist() == draws[1]


def test_rows_are_spread_evenly_from_the_first_to_the_last() -> None:
    rows = np.arange(10, 21)
    assert evenly_spread(rows, 3).tolist() == [10, 15, 20]
    assert evenly_spread(rows, 11).tolist() == rows.tolist()
    assert evenly_spread(rows[:0], 5).tolist() == []
