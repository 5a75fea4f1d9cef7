"""The stage over made-up latents whose consequences are known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.models import model_of
from common.rpc.stage import Progress
from common.store import Meta, Store, stage_spec
from common.training.context import StageContext
from ldcq.config import Config, dump, override
from ldcq.critic.transitions import Transitions
from ldcq.data.episodes import DataError
from ldcq.data.latents import LatentTable
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2
from ldcq.world_model import WorldModel, WorldModelLearner
from services.qlearner.world_model.train import run
from tests.latent_tables import publish_table

CPU = torch.device("cpu")
MOVE = np.array([[3.0, 0.0, 0.0], [0.0, -2.0, 0.0]], np.float32)
"""What the two dimensions of a latent do to the three of the state."""


@pytest.fixture
def config() -> Config:
    section = {
        "hidden": [32],
        "min_std": 0.01,
        "learning_rate": 1e-2,
        "schedule": "one_cycle",
        "batch_size": 64,
        "epochs": 20,
    }
    changes = {
        "seed": 1,
        "device": "cpu",
        "data.goal_indices": [0, 1],
        "training": {"checkpoint_every": 20, "log_every": 10, "validate_every": 100},
        "world_model": section,
    }
    return override(Config(), changes)


def table(rows: int = 600) -> LatentTable:
    """What follows s is s + z MOVE, almost; the third entry never changes; some windows end."""
    random = np.random.default_rng(0)
    state = random.normal(10, 5, (rows, 3)).astype(np.float32)
    state[:, 2] = 7.0
    mean = random.normal(0, 2, (rows, 2)).astype(np.float32)
    noise = 0.1 * random.normal(size=(rows, 3)).astype(np.float32) * np.array([1, 1, 0])
    return LatentTable(
        state=state,
        latent_mean=mean,
        latent_std=np.full_like(mean, 0.01),
        reward=np.zeros(rows, np.float32),
        discount=np.where(np.arange(rows) % 9 == 0, 0, 0.9).astype(np.float32),
        next_state=(state + mean @ MOVE + noise).astype(np.float32),
        episode=np.arange(rows),
        step=np.zeros(rows, np.int64),
        validation=np.arange(rows) % 6 == 0,
    )


def learner_of(config: Config, table: LatentTable) -> WorldModelLearner:
    torch.manual_seed(config.seed)  # as a stage does
    return WorldModelLearner(config, table, Transitions.of(table, np.arange(len(table)), CPU))


def metrics_of_the_mean(config: Config, table: LatentTable) -> dict[str, float]:
    """What validation says of a model that predicts the mean of the data, whatever it is given."""
    learner = learner_of(config, table)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.zero_()
    return {name: float(value) for name, value in learner.validate().items()}


def publish_parents(store: Store, config: Config, rows: int = 600) -> None:
    spec = stage_spec(config, "vae", {"dataset": "d"})
    meta = Meta(kind="vae", spec=spec, parents={"dataset": "d"})
    vae = store.publish(meta, {"weight": np.zeros(2, np.float32)}, "")
    parents = {"vae": vae, "dataset": "d"}
    spec = stage_spec(config, "latents", parents)
    dimensions = {"state": 3, "action": 1, "latent": 2, "horizon": config.horizon}
    meta = Meta(kind="latents", spec=spec, parents=parents, dimensions=dimensions)
    publish_table(store, meta, table(rows))


@pytest.fixture
def store(tmp_path: Path, config: Config) -> Store:
    made = Store(tmp_path / "store")
    publish_parents(made, config)
    return made


def context(store: Store, config: Config, **options: Any) -> StageContext:
    return StageContext(config, store, Progress("world_model"), **options)


def test_learns_where_latents_lead_and_publishes_it_once(store: Store, config: Config) -> None:
    version = run(context(store, config))
    artifact = store.load("world_model", version)
    assert store.current("world_model") == version
    assert artifact.meta.parents == {
        "vae": store.current("vae"),
        "latents": store.current("latents"),
    }
    model = model_of(artifact, WorldModel)
    seen = table()
    predicted = model.predict(torch.from_numpy(seen.state), torch.from_numpy(seen.latent_mean))
    off = predicted.numpy() - seen.next_state
    assert np.sqrt(np.square(off[:, :2]).mean()) < 1.0  # of changes of 6 and 4
    np.testing.assert_allclose(predicted[:, 2].numpy(), 7.0, atol=1e-4)
    # A terminal state is a next state like any other.
    assert np.sqrt(np.square(off[seen.discount == 0, :2]).mean()) < 1.0

    again = context(store, config)
    assert run(again) == version
    assert again.progress.snapshot().state == stage_pb2.STAGE_STATE_PUBLISHED
    assert again.progress.snapshot().reused


def test_learns_what_comes_of_latents_after_every_number_of_steps(config: Config) -> None:
    """After 10 of 30 steps a third of the way; windows of which an entry is large end."""
    config = override(
        config, {"lengths": [10], "world_model.rewards": True, "critic.target": "expectile_return"}
    )
    made = table(3000)
    ended = made.latent_mean[:, 0] > 1
    part = made.state + made.latent_mean @ MOVE / 3
    seen = replace(
        made,
        reward=5 * made.latent_mean[:, 1],
        discount=np.where(ended, 0, 0.8).astype(np.float32),
        part_reward=made.latent_mean[:, 1:],
        part_state=part[:, None].astype(np.float32),
    )
    learner = learner_of(config, seen)
    before = metrics_of_the_mean(config, seen)
    for step in range(learner.total):
        learner.update(step)
    after = learner.validate()
    assert float(before["reward_error"]) == pytest.approx(10, rel=0.2)
    assert float(after["reward_error"]) < 1.0
    states, latents = map(torch.from_numpy, (seen.state, seen.latent_mean))
    with torch.inference_mode():
        told = learner.model.ends(states, latents)
        earned, discounts = learner.model.earnings(states, latents)
    for place, ends in enumerate(np.stack([part, seen.next_state])):
        off = told[:, place, :2].numpy() - ends[:, :2]
        assert np.sqrt(np.square(off).mean()) < 1.0
    rewards = np.stack([seen.latent_mean[:, 1], 5 * seen.latent_mean[:, 1]], axis=1)
    assert np.abs(earned.numpy() - rewards).mean() < 0.5
    np.testing.assert_allclose(discounts[:, 0].numpy(), config.discount**10, atol=1e-4)
    assert np.abs(discounts[:, 1].numpy() - np.asarray(seen.discount)).mean() < 0.1


def test_metrics_are_in_the_units_they_claim(config: Config) -> None:
    learner = learner_of(config, table())
    before = metrics_of_the_mean(config, table())
    for step in range(learner.total):
        metrics = learner.update(step)
    after = learner.validate()
    assert metrics.keys() == {"loss", "error", "goal_error", "learning_rate"}
    assert after.keys() == before.keys() == {"loss", "error", "goal_error"}
    assert after["loss"] < before["loss"]
    # Two of three entries vary; the error is relative to how much, the goal's in its own units.
    assert float(before["error"]) == pytest.approx(np.sqrt(2 / 3), rel=0.2)
    assert float(before["goal_error"]) == pytest.approx(6.3, rel=0.2)
    assert float(after["goal_error"]) < 1.0


def test_latents_are_drawn_from_the_posterior(config: Config) -> None:
    wide = table()
    wide.latent_std[:] = 2.0
    narrow, drawn = learner_of(config, table()), learner_of(config, wide)
    # As much as the means vary, so that the inputs' deviation is the root of two times as large.
    ratio = drawn.model.latent_normaliser.std / narrow.model.latent_normaliser.std
    torch.testing.assert_close(ratio, torch.full((2,), 2**0.5), rtol=0.1, atol=0)
    rows, random = np.arange(64), torch.Generator().manual_seed(0)
    one, two = (drawn.metrics(drawn.inputs(rows, slice(None), random))["loss"] for _ in range(2))
    assert one != two


@pytest.mark.parametrize(("rows", "kept"), [(600, 64), (60, 25), (2, 1)])
def test_the_support_is_of_training_windows(config: Config, rows: int, kept: int) -> None:
    seen = table(rows)
    model = learner_of(override(config, {"world_model.reference_states": 64}), seen).model
    assert model.config.reference_states == len(model.support.known) == kept
    ends = model.state_normaliser(torch.from_numpy(seen.next_state[seen.training]))
    known = {tuple(row) for row in ends.tolist()}
    assert {tuple(row) for row in model.support.known.tolist()} <= known
    if rows == 600:
        # Not the same windows, or each would find itself.
        own, limit = model.support.distance(ends), float(model.support.limit(0.9))
        assert float((own <= limit).float().mean()) == pytest.approx(0.9, abs=0.1)
        far = model.state_normaliser.inverse(ends + 9.0)
        assert (model.support.distance(model.state_normaliser(far)) > limit).all()


def test_no_training_window_is_an_error(config: Config) -> None:
    held_out = table(20)
    held_out.validation[:] = True
    with pytest.raises(DataError, match="got 20 windows, none of them for training"):
        learner_of(config, held_out)


def test_windows_that_do_not_fit_into_memory_give_the_same_version(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    section = {"world_model.epochs": 1, "world_model.batch_size": 1000}
    versions = []
    for memory in (None, 1):
        store = Store(tmp_path / str(memory))
        changed = override(config, {**section, "training.memory": memory})
        publish_parents(store, changed, rows=40_000)
        versions.append(run(context(store, changed)))
        assert ("do not fit into memory are kept on disk" in caplog.text) == bool(memory)
    assert versions[0] == versions[1]


def test_a_stopped_stage_resumes_to_the_same_version(
    store: Store, tmp_path: Path, config: Config
) -> None:
    whole = Store(tmp_path / "whole")
    publish_parents(whole, config)
    expected = run(context(whole, config))

    class StopsAtStep(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 33

    with pytest.raises(Stopped, match=r"world_model: stopped after \d+"):
        run(context(store, config, stop=StopsAtStep()))
    assert store.current("world_model") is None
    assert list(store.root.glob("checkpoints/world_model/*/*.pt"))
    torch.manual_seed(99)
    assert run(context(store, config)) == expected


def test_a_killed_process_goes_on_to_the_same_version(
    store: Store, tmp_path: Path, config: Config
) -> None:
    config = override(config, {"world_model.epochs": 60})
    whole = Store(tmp_path / "whole")
    publish_parents(whole, config)
    expected = run(context(whole, config))
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    command = [sys.executable, "-m", "services.qlearner.world_model", "train"]
    command += ["--config", str(path), "--store", str(store.root)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 90
        while not list(store.root.glob("checkpoints/world_model/*/*.pt")):
            assert process.poll() is None, "it ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert store.current("world_model") is None
    assert run(context(store, config)) == expected


def seeded(config: Config, table: LatentTable) -> WorldModelLearner:
    torch.manual_seed(0)
    return learner_of(config, table)


def test_a_next_state_that_was_not_recorded_is_not_learned(config: Config) -> None:
    """That these episodes end is, and their rewards are."""
    config = override(
        config, {"lengths": [10], "world_model.rewards": True, "critic.target": "expectile_return"}
    )
    made = table(3000)
    ended = made.discount == 0
    seen = replace(
        made,
        reward=np.where(ended, 5, 0).astype(np.float32),
        part_reward=np.zeros((3000, 1), np.float32),
        part_state=(made.state + made.latent_mean @ MOVE / 3)[:, None].astype(np.float32),
        end_seen=~ended,
    )
    far = np.where(ended[:, None], 1e3, seen.next_state).astype(np.float32)
    made_up = replace(seen, next_state=far)
    knowing, unknowing = (seeded(config, each) for each in (seen, made_up))
    for step in range(10):
        assert knowing.update(step) == unknowing.update(step)
    assert knowing.validate() == unknowing.validate()
    rewards = unknowing.model.gain_normaliser.mean[1]
    assert float(rewards) == pytest.approx(seen.reward[seen.training].mean(), rel=1e-4)
    trusting = learner_of(config, replace(made_up, end_seen=None))
    assert trusting.model.change_normaliser.std[3] > 10 * unknowing.model.change_normaliser.std[3]


def test_data_without_any_next_state_are_refused(config: Config) -> None:
    made = table(20)
    with pytest.raises(DataError, match="none of 16 training windows was recorded"):
        learner_of(config, replace(made, end_seen=np.zeros(20, np.bool_)))
