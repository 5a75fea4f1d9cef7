"""The replicas' benchmark measures real servers, and a learner that draws from them."""

from __future__ import annotations

import pytest

from benchmarks.replicas import Phase, _result, run
from ldcq.config import load


def test_figures_by_name() -> None:
    result = run(candidates=4, batch=8, steps=2, seconds=0.01, rounds=1)
    assert set(result.summary) == {
        *("latents_ratio_2", "updates_ratio_2", "sampling_ms", "sampling_ms_beside_another"),
        *("gradient_ms", "replicas_until_gradient_bound"),
    }
    assert [row["replicas"] for row in result.rows] == [1, 2]


def test_the_figures_are_medians_over_the_rounds() -> None:
    """Three rounds; in the last, the machine is disturbed."""
    latents = {
        1: [Phase(10, s, 1.0, 0.5, s) for s in (10.0, 10.0, 50.0)],
        2: [Phase(10, s, 1.0, 0.5, 12.0) for s in (5.0, 8.0, 50.0)],
    }
    updates = {
        1: [Phase(10, 20.0, 4.0, 2.0, 10.0)] * 3,
        2: [Phase(10, s, 4.0, 2.0, 10.0) for s in (10.0, 16.0, 40.0)],
    }
    result = _result(latents, updates, 100, load("demo"))
    assert result.summary == pytest.approx(
        {
            "latents_ratio_2": 1.25, "updates_ratio_2": 1.25, "sampling_ms": 1000.0,
            "sampling_ms_beside_another": 1200.0, "gradient_ms": 200.0,
            "replicas_until_gradient_bound": 5.0,
        }
    )  # fmt: skip
    assert [row["latents/s"] for row in result.rows] == [100, 125]
    assert [row["updates/s"] for row in result.rows] == pytest.approx([0.5, 0.625])
    assert [row["replica_cores"] for row in result.rows] == pytest.approx([1.0, 1.5])
