"""What experiments on tasks of benchmarks are made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.configurations import POLICIES, configurations
from experiments.experiment import Row
from experiments.figures import by_task
from experiments.pixels import cost
from experiments.registry import find
from experiments.tasks import paper_values
from ldcq.config import ConfigError, PolicyConfig, load
from services.actor.report.theme import LIGHT, to_png
from services.actor.scores import Estimate


@pytest.mark.parametrize("name", ["adroit", "locomotion"])
def test_data_are_played_by_the_third_party_s_policies(name: str, tmp_path: Path) -> None:
    policies = tmp_path / "others" / "policies"
    policies.mkdir(parents=True)
    for file in POLICIES.values():
        (policies / file).touch()
    experiment = find(name)
    found = configurations(
        experiment, "small", store=tmp_path / "store", third_party=tmp_path / "others"
    )
    assert list(found) == list(experiment.tasks)
    for config in found.values():
        made = config.data.generate
        assert isinstance(made, PolicyConfig)
        assert {each.file for each in made.policies} == {str(policies / POLICIES[made.environment])}


@pytest.mark.parametrize("there", [False, True])
def test_without_the_policies_the_message_says_where_they_go(there: bool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dapg_policy_pen-v0.npz.* set LDCQ_THIRD_PARTY_DATA"):
        configurations(
            find("adroit"), "small", store=tmp_path, third_party=tmp_path if there else None
        )


def test_the_paper_s_number_of_a_task_is_that_of_the_policy() -> None:
    papers = paper_values(load("hopper-medium"))
    assert papers["ldcq"].text() == "66.2 ± 1.7"
    assert papers["bc"].text() == "52.9"
    assert papers["bc"].data == "hopper-medium-v2 of D4RL"
    assert paper_values(load("scene")) == {}
    assert paper_values(load("demo")) == {}


def test_what_pictures_keep_is_a_share_of_the_first_hit() -> None:
    def row(method: str, observed: str, hit: float) -> Row:
        return Row(method, {"observed": observed}, first_hit=Estimate(hit, hit - 1, hit + 1))

    rows = [row("ldcq", "pictures", 100), row("ldcq", "positions", 125)]
    rows += [row("behaviour", observed, 40) for observed in ("pictures", "positions")]
    assert cost(rows) == (
        "Of the first hit from positions, pictures keep: LDCQ 80% (100.0 [99.0, 101.0] against "
        "125.0 [124.0, 126.0])."
    )


def test_several_tasks_are_drawn_beside_one_another() -> None:
    rows = [
        Row(method, {"task": task}, episode_return=Estimate(5, 1, 9))
        for task in ("pen-cloned", "door-cloned")
        for method in ("bc", "ldcq")
    ]
    assert len(to_png(by_task([*rows, Row("prior", {"task": "pen-cloned"})], "task"), LIGHT)) > 1000
