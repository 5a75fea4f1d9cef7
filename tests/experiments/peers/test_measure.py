"""The project's side of the peers, and the peers themselves where their environment is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.data import Task
from experiments.peers import measure as peers
from ldcq.config import load
from ldcq.data.episodes import DataError, Episode, Episodes, Spaces, join_episodes
from services.actor import rollout
from services.actor.scores import score


def _episodes() -> Episodes:
    """An episode of three steps that was cut off, and one of two steps with a terminal state."""

    def episode(first: float, rewards: list[float], terminated: bool) -> Episode:
        steps = len(rewards)
        ends = np.arange(steps) == steps - 1
        return Episode(
            observations=first + np.arange(steps + 1, dtype=np.float32)[:, None],
            actions=np.full((steps, 2), first / 100, np.float32),
            rewards=np.array(rewards, np.float32),
            terminations=ends & terminated,
            truncations=ends & (not terminated),
        )

    parts = [episode(0, [1, 2, 4], False), episode(10, [8, 16], True)]
    return join_episodes(parts, Spaces.box(1, [-1, -1], [1, 1]), "short")


def _task(**changes: Any) -> Task:
    given: dict[str, Any] = {
        "make_env": lambda: None,
        "spaces": Spaces.box(1, [-1, -1], [1, 1]),
        "reference_scores": (1.0, 11.0),
        "max_episode_steps": 10,
        "first_hit": True,
        "layout": None,
    }
    return Task(**given | changes)


def test_transitions_sum_rewards_up_to_the_episodes_end() -> None:
    rows = peers.transitions(_episodes(), n_steps=2, discount=0.5)
    assert rows["rewards"].T.tolist() == [[1 + 1, 2 + 2, 4, 8 + 8, 16]]
    assert rows["intervals"].T.tolist() == [[2, 2, 1, 2, 1]]
    assert rows["observations"].T.tolist() == [[0, 1, 2, 10, 11]]
    assert rows["next_observations"].T.tolist() == [[2, 3, 3, 12, 12]]
    assert rows["terminals"].T.tolist() == [[0, 0, 0, 1, 1]], "cut off is not terminal"
    assert rows["actions"].shape == (5, 2)
    assert {values.dtype for values in rows.values()} == {np.dtype(np.float32)}


def test_one_step_transitions_are_the_data() -> None:
    rows = peers.transitions(_episodes(), n_steps=1, discount=0.5)
    assert rows["rewards"].T.tolist() == [[1, 2, 4, 8, 16]]
    assert rows["next_observations"].T.tolist() == [[1, 2, 3, 11, 12]]
    assert rows["terminals"].T.tolist() == [[0, 0, 0, 0, 1]]


def test_discrete_actions_are_refused() -> None:
    discrete = replace(_episodes(), spaces=Spaces.discrete(1, 3))
    with pytest.raises(DataError, match="short: actions are discrete, expected a Box"):
        peers.transitions(discrete, 1, 0.9)


def _played(*rewards: list[float], success: bool | None = None) -> list[rollout.Episode]:
    nowhere = np.zeros((0, 0), np.float32)
    return [
        rollout.Episode(index, np.array(each, np.float32), nowhere, success)
        for index, each in enumerate(rewards)
    ]


def test_scores_are_those_of_the_evaluation() -> None:
    episodes = _played([0, 1, 1], [0.0] * 10, [1])
    expected = score(
        [episode.rewards for episode in episodes],
        reference=(1, 11), first_hit=True, max_episode_steps=10, confidence=0.9, seed=0,
    )  # fmt: skip
    found = peers.scores(episodes, _task())
    assert expected.first_hit is not None
    assert found["return"] == pytest.approx(expected.true_return.mean)
    assert found["first_hit"] == pytest.approx(expected.first_hit.mean)
    assert found["success"] == expected.success
    assert found["returns"] == [10, -10, 0]
    assert found["first_hits"] == [80, -10, 90]
    assert found["success_scores"] is None


def test_a_task_without_first_hits_has_returns_alone() -> None:
    found = peers.scores(_played([1, 1]), _task(first_hit=False, reference_scores=None))
    assert (found["return"], found["first_hit"], found["success"]) == (2.0, None, None)


def test_successes_are_what_the_environment_calls_so() -> None:
    episodes = [*_played([-1, 0], success=True), *_played([-1, -1], success=False)]
    found = peers.scores(episodes, _task(first_hit=False), by_success=True)
    assert (found["success"], found["success_scores"]) == (0.5, [100, 0])


def test_a_call_resumes_where_it_measures_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[tuple[str, int, float]] = []

    def train(method: str, seed: int, seconds: float, *_: object) -> tuple[None, dict[str, Any]]:
        trained.append((method, seed, seconds))
        return None, {"cpu_seconds": seconds, "updates": 5, "library": "d3rlpy 0"}

    monkeypatch.setattr(peers, "ensure_dataset", lambda *_: False)
    monkeypatch.setattr(peers, "load_task", lambda *_: _task())
    monkeypatch.setattr(peers, "load_episodes", lambda *_: _episodes())
    monkeypatch.setattr(peers, "play", lambda *_: _played([0.0, 1.0]))
    monkeypatch.setattr(peers, "_train", train)
    out = tmp_path / "peers" / "demo.json"
    peers.measure(load("demo"), tmp_path, 3.0, 1, out, ["IQL"])
    for seconds, seeds in ((3.0, 1), (3.0, 2), (4.0, 1)):
        if seeds == 2:  # the file of a version that knew fewer settings
            content = json.loads(out.read_text())
            del content["data"]["reward"]
            out.write_text(json.dumps(content))
        peers.measure(load("demo"), tmp_path, seconds, seeds, out)
        if (seconds, seeds) == (3.0, 2):
            both = json.loads(out.read_text())
    assert "its rows have other training, so all is measured anew" in capsys.readouterr().out
    first = [("IQL", 0, 3.0), ("TD3+BC", 0, 3.0)]
    more = [("IQL", 1, 3.0), ("TD3+BC", 1, 3.0)]
    assert trained == [*first, *more, ("IQL", 0, 4.0), ("TD3+BC", 0, 4.0)]
    assert [(row["method"], row["library"]) for row in both["rows"]] == [
        ("IQL", "d3rlpy 0"), ("TD3+BC", "d3rlpy 0"),
    ]  # fmt: skip
    assert [run["seed"] for run in both["rows"][0]["runs"]] == [0, 1]
    last = json.loads(out.read_text())
    assert [len(row["runs"]) for row in last["rows"]] == [1, 1], "another budget starts anew"
    assert last["training"]["settings"]["IQL"]["gamma"] == 0.995


@pytest.mark.skipif(not peers.PYTHON.is_file(), reason="no .venv-peers; `make peers` installs it")
@pytest.mark.parametrize("method", list(peers.PEERS))
def test_the_library_trains_for_the_seconds_given(method: str, tmp_path: Path) -> None:
    file = tmp_path / "transitions.npz"
    np.savez(file, **peers.transitions(_episodes(), 2, 0.9))  # type: ignore[arg-type]
    policy, trained = peers._train(method, 0, 1.0, 0.9, _task(), file)
    assert 1.0 <= trained["cpu_seconds"] < 2.0
    assert trained["updates"] > 10
    assert trained["library"].startswith("d3rlpy 2.")
    actions = policy.act(np.zeros((3, 1), np.float32))
    assert actions.shape == (3, 2)
    assert (np.abs(actions) <= 1).all()


def test_an_exported_policy_acts_on_any_number_of_environments(tmp_path: Path) -> None:
    file = tmp_path / "policy.pt"
    torch.jit.trace(lambda states: -states[:, :1], torch.zeros(1, 2)).save(str(file))  # type: ignore[no-untyped-call]
    policy = peers.ExportedPolicy(file)
    policy.reset()
    observations = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    assert policy.act(observations, None).tolist() == [[-1], [-3], [-5]]
