"""Distances to the data, and choices that lead there, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.support import NEIGHBOURS, StateSupport, nearest, supported


def _apart(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(points[:, None] - known, axis=2))


def test_the_nearest_are_those_of_numpy_in_any_number_of_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    points, known = random.normal(size=(57, 3)), random.normal(size=(200, 3))
    expected = _apart(points, known)
    for at_once in (1, 200 * 10, 1 << 20):
        monkeypatch.setattr("ldcq.support._ENTRIES", at_once)
        distances, rows = nearest(torch.from_numpy(points), torch.from_numpy(known), 4)
        np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :4])
        np.testing.assert_array_equal(rows, np.argsort(expected, axis=1)[:, :4])


@pytest.mark.parametrize("count", [300, 3])
def test_distance_and_limit_are_those_of_numpy(count: int) -> None:
    random = np.random.default_rng(1)
    known, others = random.normal(size=(2, count, 4)).astype(np.float32)
    states = random.normal(size=(5, 6, 4)).astype(np.float32)
    support = StateSupport.of(torch.from_numpy(known), torch.from_numpy(others))
    place = min(NEIGHBOURS, count) - 1  # as many as there are, where they are fewer

    def far(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.sort(_apart(points, known), axis=1)[:, place])

    found = support.distance(torch.from_numpy(states))
    np.testing.assert_allclose(found, far(states.reshape(-1, 4)).reshape(5, 6), rtol=1e-3)
    limit = float(support.limit(0.9))
    assert limit == pytest.approx(np.quantile(far(others), 0.9), rel=1e-3)


def test_it_comes_back_from_its_state_dict() -> None:
    support = StateSupport.of(torch.randn(20, 2), torch.randn(20, 2))
    again = StateSupport.unknown(20, 2)
    again.load_state_dict(support.state_dict())
    states = torch.randn(7, 2)
    assert torch.equal(again.distance(states), support.distance(states))
    assert again.limit(0.5) == support.limit(0.5)


def test_the_candidates_allowed_are_those_of_a_loop() -> None:
    distances = np.random.default_rng(2).gamma(2, size=(40, 50))
    distances[:10] += 5.0  # all far from the data
    limit, kept = 1.5, 0.1
    found = supported(torch.from_numpy(distances), torch.tensor(limit), kept).numpy()
    for row, distance in zip(found, distances, strict=True):
        np.testing.assert_array_equal(row, distance <= max(limit, np.quantile(distance, kept)))
    assert (found[:10].sum(axis=1) == 5).all()


@pytest.mark.parametrize(("count", "kept"), [(50, 0.1), (7, 0.5), (1, 0.0), (6, 0.0), (6, 1.0)])
def test_ends_allowed_are_those_that_their_distances_say(count: int, kept: float) -> None:
    """Near the data, across its edge, and far from it."""
    torch.manual_seed(0)
    support = StateSupport.of(*torch.randn(2, 300, 3))
    offsets = torch.linspace(0, 4, 60)[:, None, None]
    ends = torch.randn(60, count, 3) + offsets
    ends[::7, 0] = float("nan")
    found = support.allowed(ends, 0.8, kept)
    expected = supported(support.distance(ends), support.limit(0.8), kept)
    assert torch.equal(found, expected)
    assert 0 < found.float().mean() < 1 or count == 1


@pytest.mark.parametrize("count", [1, 4])
def test_one_candidate_can_be_chosen_however_far_all_lead(count: int) -> None:
    distances = torch.arange(count, 0, -1)[None] * 10.0
    found = supported(distances, torch.tensor(0.5), kept=0.0)
    assert found.tolist() == [[False] * (count - 1) + [True]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.25])
def test_a_candidate_that_leads_nowhere_rules_out_itself_alone(bad: float, kept: float) -> None:
    distances = torch.tensor([[3.0, bad, 1.0, 2.0, bad], [bad, bad, 9.0, bad, bad]])
    found = supported(distances, torch.tensor(2.0), kept)
    assert found.tolist() == [[False, False, True, True, False], [False, False, True, False, False]]
