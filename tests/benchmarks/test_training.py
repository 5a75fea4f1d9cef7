"""The trainers' benchmark measures what it names."""

from __future__ import annotations

import pytest

from benchmarks.training import run


@pytest.mark.parametrize("action_dim", [1, 3])
def test_figures_by_name(action_dim: int) -> None:
    result = run(steps=400, state_dim=3, action_dim=action_dim, rounds=1)
    assert set(result.summary) == {
        "vae_ratio_to_plain",
        "prior_ratio_to_plain",
        "vae_ratio_all_steps",
    }
    assert all(value > 0 for value in result.summary.values())
    assert {row["trainer"].split()[0] for row in result.rows} == {"vae", "prior"}
