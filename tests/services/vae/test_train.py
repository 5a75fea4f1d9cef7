"""The stage on a real dataset file: train, publish, write latents, do nothing twice, resume."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.data.refusals import OtherGoalsError
from common.rpc.settings import ServiceSettings
from common.rpc.stage import Progress
from common.store import Store, open_latents
from common.training.context import StageContext
from common.training.process import run_stage
from ldcq.config import Config, dump, override
from ldcq.data.episodes import DataError
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2
from services.vae.train import run
from tests.common.data.test_refusals import write
from tests.ldcq.vae.synthetic import make_episodes


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    """The small configuration over a D4RL file of the synthetic episodes."""
    episodes = make_episodes(count=16)
    path = tmp_path / "data.hdf5"
    starts = episodes.offsets + np.arange(episodes.count)
    rows = np.concatenate(
        [np.arange(s, s + n) for s, n in zip(starts, episodes.lengths, strict=True)]
    )
    with h5py.File(path, "w") as file:
        file["observations"] = episodes.observations[rows]
        file["next_observations"] = episodes.observations[rows + 1]
        file["actions"] = episodes.actions
        file["rewards"] = episodes.rewards
        file["terminals"] = episodes.terminations
        file["timeouts"] = episodes.truncations
    return override(config, {"data.dataset": str(path), "training.checkpoint_every": 5})


def context(config: Config, store: Store, stop: threading.Event | None = None) -> StageContext:
    return StageContext(config, store, Progress("vae"), stop=stop or threading.Event())


def test_publishes_the_vae_and_the_latents_it_made_once(tmp_path: Path, config: Config) -> None:
    store = Store(tmp_path / "store")
    first = context(config, store)
    version = run(first)
    snapshot = first.progress.snapshot()
    assert snapshot.state == stage_pb2.STAGE_STATE_PUBLISHED
    assert (snapshot.artifact_version, snapshot.reused) == (version, False)

    artifact = store.load("vae", version)
    assert store.current("vae") == version
    assert artifact.meta.implementation == "mlp"
    assert artifact.meta.dimensions == {
        "state": 2,
        "action": 2,
        "latent": 4,
        "horizon": 5,
        "discrete_actions": 0,
        "goal": 0,
        "lengths": 1,
    }
    (latents,) = store.versions("latents")
    parents = {"vae": version, "dataset": artifact.meta.parents["dataset"]}
    assert store.meta("latents", latents).parents == parents
    assert len(open_latents(store, latents, vae_version=version)) > 100

    again = context(config, store)
    assert run(again) == version
    assert again.progress.snapshot().reused
    assert store.versions("vae") == [version]
    assert len(store.versions("latents")) == 1


def test_another_discount_writes_other_latents_of_the_same_vae(
    tmp_path: Path, config: Config
) -> None:
    store = Store(tmp_path / "store")
    version = run(context(config, store))
    one = open_latents(store)
    second = context(override(config, {"discount": 0.5}), store)
    assert run(second) == version
    assert not second.progress.snapshot().reused
    other = open_latents(store, vae_version=version)
    assert len(store.versions("latents")) == 2
    assert other.discount.max() == pytest.approx(0.5**5)
    np.testing.assert_array_equal(other.latent_mean, one.latent_mean)


def test_other_rewards_write_other_latents_of_the_same_vae(tmp_path: Path, config: Config) -> None:
    """And never the old ones, unless the old rewards are back."""
    store, goal = Store(tmp_path / "store"), {"data.goal_indices": [0, 1]}
    reward = {"kind": "sparse", "goal": [1.6, 0.0], "threshold": 1.0}
    relabelled = override(config, {**goal, "data.reward": reward})
    version = run(context(relabelled, store))
    one = open_latents(store)
    assert 0 < (one.reward > 0).sum() < len(one)
    changed = override(relabelled, {"data.reward.shift": -1.0})
    assert run(context(changed, store)) == version
    other = open_latents(store, vae_version=version)
    assert len(store.versions("latents")) == 2
    np.testing.assert_array_equal(other.latent_mean, one.latent_mean)
    whole = sum(relabelled.discount**step for step in range(relabelled.horizon))
    np.testing.assert_allclose(other.reward, one.reward - whole, rtol=1e-5)
    last = context(relabelled, store)
    assert run(last) == version
    assert last.progress.snapshot().reused
    np.testing.assert_array_equal(open_latents(store).reward, one.reward)
    ending = override(relabelled, {"data.reward.terminates": True})
    assert run(context(ending, store)) != version
    assert (open_latents(store).discount == 0).any()


def test_ends_that_were_not_recorded_are_marked_in_the_latents(
    tmp_path: Path, config: Config
) -> None:
    with h5py.File(config.data.dataset, "a") as file:
        del file["next_observations"]
        terminated = int(np.asarray(file["terminals"]).sum())
    store = Store(tmp_path / "store")
    run(context(config, store))
    table = open_latents(store)
    assert table.end_seen is not None
    assert (~table.end_seen).sum() == terminated > 0
    assert (table.discount[~table.end_seen] == 0).all()


def test_rewards_of_other_goals_are_refused_before_anything_is_trained(
    tmp_path: Path, config: Config
) -> None:
    own = write(tmp_path / "store", (1.0, -1.0), (0.0, 1.0))
    config = override(config, {"data.dataset": own.data.dataset})
    store = Store(tmp_path / "store")
    with pytest.raises(OtherGoalsError, match=r"set data.goal_indices=\[0, 1\] and data.reward"):
        run(context(config, store))
    assert store.versions("vae") == []


def test_a_stopped_stage_resumes_to_the_same_version(tmp_path: Path, config: Config) -> None:
    whole = run(context(config, Store(tmp_path / "whole")))

    class StopsAtStep(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 8

    store = Store(tmp_path / "stopped")
    with pytest.raises(Stopped, match="stopped after 8"):
        run(context(config, store, StopsAtStep()))
    assert store.current("vae") is None
    assert run(context(config, store)) == whole


def test_a_missing_dataset_is_named(tmp_path: Path, config: Config) -> None:
    config = override(config, {"data.dataset": str(tmp_path / "nowhere.hdf5")})
    with pytest.raises(DataError, match=r"nowhere\.hdf5"):
        run(context(config, Store(tmp_path / "store")))


def test_a_failure_is_reported_to_whoever_watches(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    config = override(config, {"data.dataset": str(tmp_path / "gone.hdf5")})
    settings, progress = ServiceSettings(config, Store(tmp_path / "store")), Progress("vae")
    assert not run_stage(run, settings, progress, threading.Event())
    snapshot = progress.snapshot()
    assert snapshot.state == stage_pb2.STAGE_STATE_FAILED
    assert "gone.hdf5" in snapshot.message
    assert "gone.hdf5" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_process_saves_a_checkpoint_on_sigterm(tmp_path: Path, config: Config) -> None:
    path, store = tmp_path / "config.yaml", tmp_path / "store"
    path.write_text(dump(override(config, {"vae.epochs": 4000})))
    command = [sys.executable, "-m", "services.vae", "train", "--config", str(path)]
    process = subprocess.Popen([*command, "--store", str(store)])
    try:
        deadline = time.monotonic() + 90
        while not list(store.glob("checkpoints/vae/*/*.pt")):
            assert process.poll() is None, "it ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.05)
        before = max(int(path.stem) for path in store.glob("checkpoints/vae/*/*.pt"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
    saved = [int(path.stem) for path in store.glob("checkpoints/vae/*/*.pt")]
    assert max(saved) >= before
    assert Store(store).current("vae") is None
