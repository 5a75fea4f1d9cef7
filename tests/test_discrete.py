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
from tests.command import TINY, ldcq, run_json, tiny_configuration

LENGTH = 200

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("runs")]


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
    tiny["evaluation"] |= {"report": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tiny))
    result = run_json(tmp_path / "config.yaml", store)
    check_rows(result, ["ldcq", "prior", "behaviour"])
    assert "<html" in Path(result["report"]).read_text()[:200].lower()
    for row in result["rows"]:
        # Falling over ends an episode, so that every return is a number of steps.
        assert 1 <= row["return"]["mean"] <= LENGTH
    assert dimensions(store) == {"state": 4, "action": 1, "discrete_actions": 2}


@pytest.mark.slow
def test_a_d4rl_file_goes_through_the_pipeline(tmp_path: Path) -> None:
    episodes = list(random_episodes(gymnasium.make("Pendulum-v1"), 8))
    file = d4rl_file(tmp_path, episodes)
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


def test_data_without_an_environment_are_trained_on_and_not_scored(tmp_path: Path) -> None:
    environment = gymnasium.make("Pendulum-v1", max_episode_steps=60)
    file = d4rl_file(tmp_path, list(random_episodes(environment, 8)))
    changes = {
        "data": {"dataset": str(file)},
        "variants": {},
        "evaluation": {"methods": {"ldcq": {"policy": "ldcq"}}},
    }
    config, store = tiny_configuration(tmp_path, changes), tmp_path / "store"
    done = ldcq("run", config, "--store", store)
    assert "Nothing was scored: there is no environment to play in" in done.stdout
    assert "evaluation.environment: not given, and" in done.stderr
    assert "records none" in done.stderr
    made = {kind: Store(store).current(kind) for kind in ("vae", "prior", "critic", "evaluation")}
    assert [kind for kind, version in made.items() if version is None] == ["evaluation"]


def d4rl_file(folder: Path, episodes: list[EpisodeArrays]) -> Path:
    """The episodes as D4RL keeps them: one observation per action."""
    file = folder / "data.hdf5"
    with h5py.File(file, "w") as written:
        written["observations"] = np.concatenate(
            [np.asarray(episode.observations)[:-1] for episode in episodes]
        )
        for name, field in (
            ("actions", "actions"),
            ("rewards", "rewards"),
            ("terminals", "terminations"),
            ("timeouts", "truncations"),
        ):
            written[name] = np.concatenate([getattr(episode, field) for episode in episodes])
    return file


def check_rows(result: dict[str, Any], methods: list[str]) -> None:
    """A row per method (the data's last), without the score that belongs to mazes."""
    assert [row["method"] for row in result["rows"]] == methods
    assert {row["episodes"] for row in result["rows"][:-1]} == {3}
    for row in result["rows"]:
        assert row["first_hit"] is None
        assert all(math.isfinite(value) for value in row["return"].values())


def dimensions(store: Path) -> dict[str, int]:
    """Of the published VAE."""
    opened = Store(store)
    version = opened.current("vae")
    assert version is not None
    sizes = opened.meta("vae", version).dimensions
    return {key: sizes[key] for key in ("state", "action", "discrete_actions")}
