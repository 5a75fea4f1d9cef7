"""The trainers' benchmark measures what it names."""

from __future__ import annotations

import pytest

from benchmarks.training import _result, run
from tests.benchmarks.laps import timed_laps


@pytest.mark.parametrize("action_dim", [1, 3])
def test_figures_by_name(action_dim: int) -> None:
    result = run(steps=400, state_dim=3, action_dim=action_dim, rounds=1)
    assert set(result.summary) == {
        "vae_ratio_to_plain",
        "prior_ratio_to_plain",
        "vae_ratio_all_steps",
    }
    assert {row["trainer"].split()[0] for row in result.rows} == {"vae", "prior"}


def test_the_figures_are_ratios_of_medians() -> None:
    taken = {
        "vae plain": 90.0, "vae ldcq": 10.0, "vae ldcq, all steps": 30.0,
        "prior plain": 12.0, "prior ldcq": 4.0,
    }  # fmt: skip
    watches = {name: timed_laps({"total": ms}) for name, ms in taken.items()}
    result = _result("demo", dict.fromkeys(taken, 128), watches)
    assert result.summary == pytest.approx(
        {"vae_ratio_to_plain": 9.0, "prior_ratio_to_plain": 3.0, "vae_ratio_all_steps": 3.0}
    )
    assert result.rows[1]["samples_per_second"] == pytest.approx(12_800.0)
