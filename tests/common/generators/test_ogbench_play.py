"""Scripted play: the same from the same seed, and rewards of a task told from what it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.data import ensure_dataset, load_episodes
from ldcq.config import load
from ldcq.config.generate import OgbenchPlayConfig
from ldcq.data.episodes import DataError

pytest.importorskip("ogbench", reason="needs ogbench: pip install 'ldcq[ogbench]'")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "environment", ["scene-v0", pytest.param("cube-double-v0", marks=pytest.mark.slow)]
)
def test_a_trajectory_is_a_function_of_its_seed(environment: str) -> None:
    from common.generators.ogbench_play import EPISODE_STEPS, ScriptedPlay

    player = ScriptedPlay(OgbenchPlayConfig(environment=environment))
    first = player.episode(np.random.SeedSequence(1))
    player.episode(np.random.SeedSequence(2))
    again = player.episode(np.random.SeedSequence(1))
    np.testing.assert_array_equal(first.observations, again.observations)
    np.testing.assert_array_equal(first.actions, again.actions)
    assert len(first.rewards) == EPISODE_STEPS
    assert first.infos is not None
    assert len(first.infos["qpos"]) == EPISODE_STEPS + 1


@pytest.mark.filterwarnings("ignore")
def test_rewards_of_a_task_are_told_from_minari_data(tmp_path: Path) -> None:
    task = load("scene").task
    assert task is not None
    assert task.generated is not None
    name = task.generated.dataset
    config = load("scene", [f"data.dataset={name}"]).data
    made = config.model_copy(update={"generate": OgbenchPlayConfig(steps=800)})
    assert ensure_dataset(made, tmp_path)
    episodes = load_episodes(config, tmp_path)
    assert {*np.unique(episodes.rewards)} <= {-5, -4, -3, -2, -1, 0}
    assert len({*np.unique(episodes.rewards)}) > 1
    lasts = np.cumsum(episodes.lengths) - 1
    assert (episodes.terminations | episodes.truncations)[lasts].all()
    plain = load_episodes(config.model_copy(update={"reward": None}), tmp_path)
    assert not plain.rewards.any()
    other = config.reward.model_copy(update={"task": "cube-double-singletask-v0"})  # type: ignore[union-attr]
    with pytest.raises(DataError, match="does not go with the states in"):
        load_episodes(config.model_copy(update={"reward": other}), tmp_path)
