"""Behaviour cloning on small real data, continuous and discrete."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.models import model_of
from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.bc import Bc, BcLearner
from ldcq.config import Config, override
from ldcq.data.episodes import Episodes
from ldcq.data.windows import make_windows
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2
from services.vae.bc.train import run
from tests.ldcq.vae.synthetic import make_episodes

CPU = torch.device("cpu")
TURN = np.array([[0.0, 1.0], [-1.0, 0.5]], np.float32)


@pytest.fixture
def config() -> Config:
    section = {
        "hidden": 32,
        "min_std": 0.05,
        "learning_rate": 5e-3,
        "schedule": "one_cycle",
        "batch_size": 32,
        "epochs": 20,
    }
    changes = {"seed": 3, "device": "cpu", "data.validation_fraction": 0.2, "bc": section}
    return override(Config(), changes)


@pytest.fixture
def episodes(monkeypatch: pytest.MonkeyPatch) -> Episodes:
    """What the stage loads: one way of turning only, so that the state decides the action."""
    made = make_episodes(count=24)
    monkeypatch.setattr("services.vae.data.load_episodes", lambda *_: made)
    return made


def context(store: Store, config: Config, stop: threading.Event | None = None) -> StageContext:
    return StageContext(config, store, Progress("bc"), stop=stop or threading.Event())


def test_publishes_a_policy_without_latents_once(
    tmp_path: Path, config: Config, episodes: Episodes
) -> None:
    store = Store(tmp_path)
    version = run(context(store, config))
    artifact = store.load("bc", version)
    assert artifact.meta.parents == {"dataset": episodes.fingerprint}
    assert artifact.meta.dimensions == {
        "state": 2,
        "action": 2,
        "latent": 0,
        "horizon": 1,
        "discrete_actions": 0,
        "goal": 0,
        "lengths": 1,
    }
    policy = model_of(artifact, Bc)
    states = torch.from_numpy(episodes.observations[:50])
    actions = policy.act(states, states.new_zeros(50, 0))
    assert actions.shape == (50, 2)
    assert (actions.abs() <= 1).all()

    again = context(store, config)
    assert run(again) == version
    assert again.progress.snapshot().state == stage_pb2.STAGE_STATE_PUBLISHED
    assert again.progress.snapshot().reused


@pytest.mark.parametrize("discrete", [False, True])
def test_imitates_what_was_done(config: Config, discrete: bool) -> None:
    episodes = make_episodes(discrete, count=24)
    seen = make_windows(episodes, 1, 0.2, 0).first_states(slice(None))
    done = (seen[:, :1] > 0).astype(np.int64) if discrete else np.tanh(seen @ TURN)
    steps = make_windows(replace(episodes, actions=done), 1, 0.2, 0)
    assert len(steps) == len(done)
    learner = BcLearner(config, steps, CPU)
    before = learner.validate()["loss"]
    for step in range(learner.total):
        metrics = learner.update(step)
    assert metrics.keys() == {"loss", "learning_rate"}
    assert learner.validate()["loss"] < before
    states = torch.from_numpy(seen)
    taken = learner.policy.act(states, states.new_zeros(len(states), 0)).numpy()
    if discrete:
        assert (taken == done).mean() > 0.9
    else:
        assert np.abs(taken - done).mean() < 0.1


def test_a_stopped_stage_resumes_to_the_same_version(
    tmp_path: Path,
    config: Config,
    episodes: Episodes,  # noqa: ARG001 - what the stage loads
) -> None:
    whole = run(context(Store(tmp_path / "whole"), config))

    class StopsAtStep(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 33

    store = Store(tmp_path / "stopped")
    with pytest.raises(Stopped, match=r"bc: stopped after \d+"):
        run(context(store, config, StopsAtStep()))
    assert store.current("bc") is None
    torch.manual_seed(99)
    assert run(context(store, config)) == whole


def test_the_horizon_does_not_decide_it(config: Config, tmp_path: Path, episodes: Episodes) -> None:
    del episodes
    store = Store(tmp_path)
    version = run(context(store, config))
    assert run(context(store, override(config, {"horizon": 7}))) == version
