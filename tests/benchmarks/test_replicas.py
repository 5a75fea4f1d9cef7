"""The replicas' benchmark measures real servers, and a learner that draws from them."""

from __future__ import annotations

from benchmarks.replicas import run


def test_figures_by_name() -> None:
    result = run(candidates=4, batch=8, steps=2, seconds=0.01, rounds=1)
    assert set(result.summary) == {
        *("latents_ratio_2", "updates_ratio_2", "sampling_ms", "sampling_ms_beside_another"),
        *("gradient_ms", "replicas_until_gradient_bound"),
    }
    assert result.summary["latents_ratio_2"] > 0
    assert [row["replicas"] for row in result.rows] == [1, 2]
    assert all(row["latents/s"] > 0 and row["updates/s"] > 0 for row in result.rows)
