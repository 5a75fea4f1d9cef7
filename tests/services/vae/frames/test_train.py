"""The stage `frames` on PointMaze as pictures, and the stages and policies that live on it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ldcq
from cli.export import export
from common.data import ensure_dataset, load_episodes, load_task
from common.models import model_of
from common.rpc.stage import Progress
from common.store import CorruptArtifactError, Store, made
from common.training.context import StageContext
from ldcq.config import Config, ConfigError, load, override
from ldcq.data.episodes import DataError
from ldcq.learning.learner import Stopped
from ldcq.vae.frames import FrameDimensions, Frames
from services.actor.train import run as evaluate
from services.vae.bc.train import run as train_bc
from services.vae.compressed import compressed_episodes
from services.vae.frames.train import run
from services.vae.train import run as train_vae
from tests.command import PIXELS

pytestmark = pytest.mark.xdist_group("pixels")


@pytest.fixture(scope="module")
def config() -> Config:
    """Over a dataset that is there, where Minari's datasets are."""
    methods = {"bc": {"policy": "bc"}, "behaviour": {"policy": "behaviour"}}
    shown = {"evaluation.video": False, "evaluation.report": False}
    changes = {"evaluation.methods": methods, "vae.epochs": 1, **shown}
    return override(load(PIXELS), changes)


@pytest.fixture(scope="module")
def data(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    assert ensure_dataset(config.data, root)
    return root / "datasets"


@pytest.fixture(autouse=True)
def _found(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data))


@pytest.fixture(scope="module")
def trained(config: Config, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with frames, and the dataset compressed."""
    store = Store(tmp_path_factory.mktemp("trained") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(data))
        run(context(store, config))
    return store


def context(store: Store, config: Config, stop: threading.Event | None = None) -> StageContext:
    return StageContext(config, store, Progress("frames"), stop=stop or threading.Event())


def refuse(*_: Any) -> Any:
    raise AssertionError("the pictures are read again")


def test_frames_are_published_once_and_the_data_compressed(config: Config, trained: Store) -> None:
    version = trained.current("frames")
    assert version is not None
    raw = load_episodes(config.data, trained.root, None, config.frames)
    meta = trained.meta("frames", version)
    assert meta.parents == {"dataset": raw.fingerprint}
    sizes = {"height": 16, "width": 16, "channels": 3, "latent": 6}
    assert meta.dimensions == FrameDimensions(**sizes).model_dump()
    again = context(trained, config)
    assert run(again) == version
    assert again.progress.snapshot().reused

    episodes = compressed_episodes(again, version)
    assert episodes.frames is None
    assert (episodes.spaces.state_dim, episodes.spaces.frames) == (8, ())
    assert (episodes.fingerprint, episodes.name) == (raw.fingerprint, raw.name)
    for name in ("actions", "rewards", "terminations", "truncations", "lengths"):
        np.testing.assert_array_equal(getattr(episodes, name), getattr(raw, name))
    model = model_of(trained.load("frames", version), Frames)
    assert raw.frames is not None
    latents = model.encode(raw.frames[:, 0])
    np.testing.assert_allclose(episodes.observations[:, :6], latents, atol=1e-5)
    np.testing.assert_array_equal(episodes.observations[:, 6:], raw.observations)


def test_compressing_again_writes_the_same_bytes(config: Config, trained: Store) -> None:
    (path,) = (trained.root / "compressed").iterdir()
    before = path.read_bytes()
    path.unlink()
    here = context(trained, config)
    train_bc(here)  # whoever needs it makes it again
    assert path.read_bytes() == before


def test_damage_in_compressed_data_is_found_where_they_are_read(
    config: Config, trained: Store
) -> None:
    (path,) = (trained.root / "compressed").iterdir()
    whole = path.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for damaged in (b"", whole[:-8], flipped):
        path.write_bytes(damaged)
        with pytest.raises(CorruptArtifactError, match="is damaged or cut short; delete it"):
            compressed_episodes(context(trained, config), path.stem)
    path.write_bytes(whole)


def test_later_stages_read_the_compressed_data_and_are_made_from_them(
    config: Config, trained: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.vae.data.load_episodes", refuse)
    monkeypatch.setattr("services.vae.compressed.load_episodes", refuse)
    version = trained.current("frames")
    vae = trained.meta("vae", train_vae(context(trained, config)))
    bc = trained.meta("bc", train_bc(context(trained, config)))
    dataset = trained.meta("frames", str(version)).parents["dataset"]
    assert vae.parents == bc.parents == {"dataset": dataset, "frames": version}
    assert vae.dimensions["state"] == bc.dimensions["state"] == 8
    found = made(trained, config, "main", ("frames", "vae"), dataset=dataset)
    assert found["frames"] == version


def test_other_frames_are_another_artifact_and_so_is_what_follows(
    config: Config, trained: Store
) -> None:
    first, bc = trained.current("frames"), train_bc(context(trained, config))
    other = override(config, {"frames.latent_dim": 4})
    store = Store(trained.root)
    second = run(context(store, other))
    assert second != first
    assert train_bc(context(store, other)) != bc
    assert store.current("frames") == second
    assert run(context(store, config)) == first, "the one of before is still there"
    assert train_bc(context(store, config)) == bc


def test_a_stopped_stage_resumes_to_the_same_version(
    config: Config, trained: Store, tmp_path: Path
) -> None:
    class StopsAtStep(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 13

    store = Store(tmp_path / "stopped")
    with pytest.raises(Stopped, match=r"frames: stopped after \d+"):
        run(context(store, config, StopsAtStep()))
    assert store.current("frames") is None
    torch.manual_seed(99)
    assert run(context(store, config)) == trained.current("frames")


def test_without_the_section_nothing_learns_from_pictures(config: Config, tmp_path: Path) -> None:
    plain, store = override(config, {"frames": None}), Store(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"frames is null, .*set frames=\{\}"):
        run(context(store, plain))
    for stage in (train_vae, train_bc):
        with pytest.raises(DataError, match=r"'image' are of shape .*frames=\{\} compresses"):
            stage(context(store, plain))
    velocity = override(config, {"data.observation_keys": ["velocity"]})
    with pytest.raises(DataError, match=r"frames: set, but .* has no images"):
        run(context(store, velocity))
    deep = override(config, {"frames.channels": [4, 4, 4, 4, 4]})
    with pytest.raises(DataError, match="16 x 16, expected sides that are multiples of 32"):
        run(context(store, deep))


def test_a_policy_over_pictures_is_evaluated_and_exported(
    config: Config, trained: Store, tmp_path: Path
) -> None:
    train_bc(context(trained, config))
    version = evaluate(context(trained, config))
    meta = trained.meta("evaluation", version)
    assert meta.parents["frames"] == trained.current("frames")
    rows: Any = meta.details["rows"]
    assert [(row["method"], row["episodes"] > 0) for row in rows] == [
        ("bc", True),
        ("behaviour", True),
    ]

    folder = tmp_path / "policy"
    export(trained, config, "bc", folder)
    assert (folder / "frames.safetensors").is_file()
    policy = ldcq.load_policy(folder)
    environment = load_task(config, trained.root).make_env()
    seen, _ = environment.reset(seed=1000)
    latents = policy.encode(seen["image"][None])
    actions = policy.act(np.concatenate([latents, seen["velocity"][None]], axis=1))
    assert actions.shape == (1, 2)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(16, 16, 3\), expected .*\(E, 16"):
        policy.encode(seen["image"])
