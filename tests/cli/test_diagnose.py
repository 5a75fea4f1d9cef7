"""`ldcq diagnose` on a small store, and what it makes of a dozen policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.diagnose import SCORES, diagnose, what_predicts
from cli.supervisor import RunError
from common.store import Store
from tests.command import ldcq

in_pipeline = [pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]
OFFLINE = {
    "own_q",
    "max_q",
    "spread",
    "max_gain",
    "agreement",
    "off_support",
    "off_support_unranked",
    "off_support_chosen",
}


@pytest.fixture(scope="module")
def diagnosed(finished: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    store, _ = finished
    printed = ldcq("diagnose", store, "--episodes", "3", "--json").stdout
    return store, json.loads(printed)


class TestOfASmallStore:
    pytestmark = in_pipeline

    def test_every_policy_over_a_critic_is_looked_at(
        self, finished: tuple[Path, dict[str, Any]], diagnosed: tuple[Path, dict[str, Any]]
    ) -> None:
        store, found = diagnosed
        assert json.loads((store / "diagnose" / "diagnose.json").read_text()) == found
        scores = {row["method"]: row for row in finished[1]["rows"]}
        assert {policy["variant"] for policy in found["policies"]} == {"main", "bcq_h"}
        for policy in found["policies"]:
            method = policy["policy"].split()[1]
            critic = "main" if method == "ldcq" else "bcq_h"
            assert policy["critic"] == Store(store).current("critic", critic)
            assert (policy["H"], policy["n"], policy["seed"]) == (10, 4, 0)
            assert policy["score"]["return"] == scores[method]["return"]["mean"]
            offline = policy["offline"]
            assert offline.keys() == OFFLINE
            assert offline["max_gain"] >= offline["spread"] > 0
            assert -1 <= offline["agreement"] <= 1
            assert 0 <= offline["off_support"] <= 1
            assert offline["off_support_chosen"] == offline["off_support"], "by Q alone, of all"
            assert 0 <= policy["rollouts"]["still"] <= 1
        assert all("6 are needed" in sentence for sentence in found["advice"])
        assert found["predictions"] == {}

    def test_rollouts_are_the_episodes_of_the_evaluation(
        self, diagnosed: tuple[Path, dict[str, Any]]
    ) -> None:
        folder, found = diagnosed
        store = Store(folder)
        evaluations = [store.load("evaluation", v) for v in store.versions("evaluation")]
        tensors = max(evaluations, key=lambda e: len(e.tensors["ldcq/lengths"])).tensors
        for policy in found["policies"]:
            rewards = tensors[f"{policy['policy'].split()[1]}/rewards"]
            assert len(rewards) == 3
            assert policy["rollouts"]["return"] == pytest.approx(rewards.sum(1).mean())

    def test_pictures_show_calibration_and_ends(
        self, diagnosed: tuple[Path, dict[str, Any]]
    ) -> None:
        pictures = [Path(path) for path in diagnosed[1]["pictures"]]
        assert [path.name for path in pictures] == ["calibration.png", "ends.png"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)

    def test_a_variant_without_episodes_elsewhere(
        self, finished: tuple[Path, dict[str, Any]], tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        options = ("--variant", "bcq_h", "--episodes", "0", "--out", out)
        printed = ldcq("diagnose", finished[0], *options).stdout
        assert "bcq_h" in printed
        assert " ldcq " not in printed
        assert "Rollouts" not in printed
        (policy,) = json.loads((out / "diagnose.json").read_text())["policies"]
        assert policy["rollouts"] == {}
        assert [path.name for path in out.iterdir()] == ["diagnose.json"]

    def test_an_unknown_variant_is_refused(self, finished: tuple[Path, dict[str, Any]]) -> None:
        with pytest.raises(RunError, match="--variant goals: expected one of bcq_h, main"):
            diagnose(Store(finished[0]), "goals", 0, None, print)


def test_a_store_without_a_critic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="found no critic; `ldcq run"):
        diagnose(Store(tmp_path), None, 0, None, print)
    assert not (tmp_path / "diagnose").exists()


def _policies(count: int, offline: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """Policies over one critic with n = 0, 1, 2 and so on, better and better."""
    return [
        {
            **{"critic": "a", "dataset": "maze", "H": 30, "temperature": 1, "execute_steps": 10},
            **{"lookahead": 0.5, "support": None, "n": index},
            **settings,
            "score": {"return": float(index), "first_hit": None, "success_score": None},
            "offline": {name: values[index] for name, values in offline.items()},
        }
        for index in range(count)
    ]


def test_the_advice_names_what_predicts_the_score() -> None:
    random = np.random.default_rng(0)
    offline = {"chance": random.normal(size=9), "off_support": -(np.arange(9.0) ** 3)}
    # Without an evaluation, or over a critic of its own, a policy compares with none.
    unscored = [{**_policies(1, offline)[0], "score": dict.fromkeys(SCORES)}]
    found = what_predicts([*_policies(9, offline), *unscored, *_policies(1, offline, critic="b")])
    acting, critics = found["advice"]
    assert acting.startswith("To choose n and temperature: small off_support predicts return")
    assert "(Spearman -1.00, p 0.0" in acting
    assert "9 policies" in acting
    assert critics.startswith("To choose the critic: 2 evaluated policies with the same dataset")
    assert found["predictions"].keys() == {"return, to choose n and temperature"}


def test_critics_are_compared_where_they_act_alike() -> None:
    offline = {"spread": np.arange(7.0)}
    alike = [
        {**policy, "critic": str(i), "n": 50} for i, policy in enumerate(_policies(7, offline))
    ]
    acting, critics = what_predicts(alike)["advice"]
    assert acting.startswith("To choose n and temperature: 0 evaluated policies")
    assert critics.startswith("To choose the critic: large spread predicts return without")


def test_the_advice_does_not_take_chance_for_a_prediction() -> None:
    offline = {"max_q": [1.0, 0, 3, 2, 5, 4, 0], "spread": [None] * 7}
    advice = what_predicts(_policies(7, offline))["advice"][0]
    assert "no offline number predicts return" in advice
    assert "Use rollouts" in advice


@pytest.mark.parametrize("count", [0, 5])
def test_few_policies_predict_nothing(count: int) -> None:
    found = what_predicts(_policies(count, {"max_q": list(range(count))}))
    assert found["predictions"] == {}
    assert (
        f"{count} evaluated policies with the same critic are in the store, 6 are"
        in (found["advice"][0])
    )
