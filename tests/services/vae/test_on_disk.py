"""A dataset that does not fit into memory: the same VAE and latents, and a bound on memory."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.config import Config
from services.vae.train import run
from tests.memory import run_measured

STEPS = 1000
"""Of an episode."""


def write_file(path: Path, episodes: int, state_dim: int) -> None:
    random, steps = np.random.default_rng(0), episodes * STEPS
    with h5py.File(path, "w") as file:
        observations = file.create_dataset("observations", (steps, state_dim), np.float32)
        for start in range(0, steps, STEPS):
            observations[start : start + STEPS] = random.random((STEPS, state_dim), np.float32)
        file["actions"] = random.uniform(-1, 1, (steps, 2)).astype(np.float32)
        file["rewards"] = random.normal(size=steps).astype(np.float32)
        file["terminals"] = np.zeros(steps, np.bool_)
        file["timeouts"] = np.arange(1, steps + 1) % STEPS == 0


def small_config(path: Path, memory: int | None) -> Config:
    return Config.model_validate(
        {
            "horizon": 4,
            "device": "cpu",
            "data": {"dataset": str(path), "validation_fraction": 0.2},
            "training": {"memory": memory},
            "vae": {
                "encoder": "mlp",
                "latent_dim": 2,
                "hidden": 8,
                "decoder_hidden": 8,
                "epochs": 1,
                "batch_size": 512,
            },
        }
    )


def test_the_stage_makes_the_same_from_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "data.hdf5"
    write_file(path, 5, 60)
    versions = []
    for name, memory in (("memory", None), ("disk", 1)):
        caplog.clear()
        with caplog.at_level("INFO", "common.store.rows"):
            config, store = small_config(path, memory), Store(tmp_path / name)
            stage = StageContext(base=config, store=store, progress=Progress("vae"))
            versions.append((run(stage), store.current("latents")))
        assert ("kept on disk" in caplog.text) == (memory == 1)
    assert versions[0] == versions[1]


PROGRAM = """
import sys, threading
from pathlib import Path
import torch
from common.data import load_episodes
from ldcq.data.windows import make_windows
from common.store import Meta, Store
from services.vae.export import write_latents
from ldcq.vae.learner import VaeLearner
from tests.memory import most_taken
from tests.services.vae.test_on_disk import small_config

def train_and_write(path, memory, name):
    config, store = small_config(path, memory), Store(folder / name)
    windows = make_windows(load_episodes(config.data, store.root, memory), 4, 0.2, 0)
    learner = VaeLearner(config, windows, torch.device("cpu"))
    for step in range(0, learner.total, 50):
        learner.update(step)
    learner.validate()
    options = {"variant": "main", "on_progress": lambda *_: None, "stop": threading.Event()}
    write_latents(store, Meta(kind="latents"), learner.vae, windows, 0.99, (), **options)

torch.set_num_threads(1)
folder = Path(sys.argv[1])
train_and_write(folder / "small.hdf5", None, "small")
print(most_taken(lambda: train_and_write(folder / "large.hdf5", 1, "large")))
large = small_config(folder / "large.hdf5", None).data
print(most_taken(lambda: load_episodes(large, folder)))
"""


def test_memory_stays_bounded(tmp_path: Path) -> None:
    write_file(tmp_path / "small.hdf5", 1, 300)
    write_file(tmp_path / "large.hdf5", 280, 300)
    size = 280 * STEPS * 300 * 4
    on_disk, in_memory = run_measured(PROGRAM, tmp_path)
    # A process may still have memory of before, which the data then fill first.
    assert in_memory > 0.8 * size > 1.6 * on_disk
