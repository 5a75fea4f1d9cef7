"""Other data through the whole pipeline: discrete actions, and a D4RL file with an environment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
import yaml

from common.data.minari_writing import EpisodeArrays, Recording, write_minari
from common.store import Store
from tests.command import TINY, run_json, tiny_configuration

LENGTH = 200

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("pipeline")]


def random_episodes(environment: gymnasium.Env[Any, Any], count: int) -> Iterator[EpisodeArrays]:
    """Episodes of a random policy."""
    environment.action_space.seed(0)
    for index in range(count):
        observations = [environment.reset(seed=index)[0]]
        steps: list[tuple[Any, ...]] = []
        while not steps or not (steps[-1][2] or steps[-1][3]):
            action = environment.action_space.sample()
            observation, *outcome, _ = environment.step(action)
            observations.append(observation)
            steps.append((action, *outcome))
        actions, rewards, terminations, truncations = map(np.asarray, zip(*steps, strict=True))
        yield EpisodeArrays(np.asarray(observations), actions, rewards, terminations, truncations)


def test_discrete_actions_go_through_the_pipeline(tmp_path: Path) -> None:
    store, name = tmp_path / "store", "ldcq/cartpole-random-v0"
    environment = gymnasium.make("CartPole-v1", max_episode_steps=LENGTH)
    assert environment.spec is not None
    recording = Recording(random_episodes(environment, 60), environment, environment.spec, {})
    write_minari(store / "datasets", name, recording)
    # One pipeline is enough here; what starts from no preset has no second one.
    tiny = yaml.safe_load(TINY.read_text()) | {"data": {"dataset": name}, "variants": {}}
    del tiny["base"]
    tiny["vae"] |= {"encoder": "mlp"}
    tiny["prior"] |= {"batch_size": 256}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny))
    result = run_json(tmp_path / "config.yaml", store)
    check_rows(result, ["ldcq", "prior", "behaviour"])
    for row in result["rows"]:
        # Falling over ends an episode, so that every return is a number of steps.
        assert 1 <= row["return"]["mean"] <= LENGTH
    assert dimensions(store) == {"state": 4, "action": 1, "discrete_actions": 2}


@pytest.mark.slow
def test_a_d4rl_file_goes_through_the_pipeline(tmp_path: Path) -> None:
    environment, file = gymnasium.make("Pendulum-v1"), tmp_path / "pendulum.hdf5"
    episodes = list(random_episodes(environment, 8))
    with h5py.File(file, "w") as written:
        written["observations"] = np.concatenate(
            [np.asarray(e.observations)[:-1] for e in episodes]
        )
        written["actions"] = np.concatenate([e.actions for e in episodes])
        written["rewards"] = np.concatenate([e.rewards for e in episodes])
        written["terminals"] = np.concatenate([e.terminations for e in episodes])
        written["timeouts"] = np.concatenate([e.truncations for e in episodes])
    config = tiny_configuration(
        tmp_path,
        {
            "data": {"dataset": str(file)},
            "evaluation": {"environment": "Pendulum-v1", "reference_scores": [-1600.0, 0.0]},
        },
    )
    store = tmp_path / "store"
    result = run_json(config, store)
    check_rows(result, ["ldcq", "bcq_h", "prior", "behaviour"])
    # The last action of every episode has no next observation in such a file.
    recorded = np.mean([episode.rewards[:-1].sum() for episode in episodes])
    behaviour = result["rows"][-1]
    assert behaviour["return"]["mean"] == pytest.approx(100 * (recorded + 1600) / 1600, rel=1e-4)
    assert dimensions(store) == {"state": 3, "action": 1, "discrete_actions": 0}


def check_rows(result: dict[str, Any], methods: list[str]) -> None:
    """A row per method (the data's last), without the score that belongs to mazes, and a report."""
    assert [row["method"] for row in result["rows"]] == methods
    assert {row["episodes"] for row in result["rows"][:-1]} == {3}
    for row in result["rows"]:
        assert row["first_hit"] is None
        assert all(math.isfinite(value) for value in row["return"].values())
    assert "<html" in Path(result["report"]).read_text()[:200].lower()


def dimensions(store: Path) -> dict[str, int]:
    """Of the published VAE."""
    opened = Store(store)
    version = opened.current("vae")
    assert version is not None
    sizes = opened.meta("vae", version).dimensions
    return {key: sizes[key] for key in ("state", "action", "discrete_actions")}
