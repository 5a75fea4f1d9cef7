"""The benchmark of target rules measures every rule there is."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks.targets import SUBJECTS, _result, run
from ldcq.config import CriticConfig


def test_every_rule_is_measured() -> None:
    result = run(windows=600, rounds=1, warm_up=1)
    rules = {str(changes["target"]) for changes, _ in SUBJECTS.values()}
    assert rules == set(get_args(CriticConfig.model_fields["target"].annotation))
    assert [row["critic"] for row in result.rows] == list(SUBJECTS)


def test_the_figures_are_ratios() -> None:
    milliseconds = dict.fromkeys(SUBJECTS, 4.0)
    milliseconds |= {"max_min, n = 500": 40.0, "dueling": 5.0, "dueling, 3 lengths": 6.0}
    result = _result(milliseconds)
    assert result.summary == pytest.approx({"lengths_cost": 1.2, "value_network_ratio": 10.0})
    assert [row["updates_per_second"] for row in result.rows[:2]] == pytest.approx([25.0, 250.0])
    assert [row["ratio"] for row in result.rows[:2]] == pytest.approx([1.0, 10.0])
