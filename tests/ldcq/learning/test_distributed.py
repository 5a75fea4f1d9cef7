"""Two processes started by `torchrun` against one: the same training, up to rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.store import Store
from common.training import read_metrics
from ldcq.config import Config, dump, load, override
from ldcq.learning.distributed import Ranks
from tests.ldcq.vae.synthetic import make_episodes


def dataset(folder: Path) -> Path:
    """A D4RL file of small episodes."""
    episodes = make_episodes(count=16)
    starts = episodes.offsets + np.arange(episodes.count)
    rows = np.concatenate(
        [np.arange(s, s + n) for s, n in zip(starts, episodes.lengths, strict=True)]
    )
    path = folder / "data.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = episodes.observations[rows]
        file["next_observations"] = episodes.observations[rows + 1]
        file["actions"] = episodes.actions
        file["rewards"] = episodes.rewards
        file["terminals"] = episodes.terminations
        file["timeouts"] = episodes.truncations
    return path


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Odd batch sizes, so that the ranks' shares differ."""
    return override(
        load("demo"),
        {
            "device": "cpu",
            "horizon": 5,
            "lengths": [],
            "actor": {"execute_steps": None},
            "data": {"dataset": str(dataset(tmp_path)), "generate": None, "observation_keys": None},
            "training": {"log_every": 1, "checkpoint_every": 10, "validate_every": 10},
            "vae": {
                "latent_dim": 3,
                "hidden": 16,
                "decoder_hidden": 16,
                "batch_size": 33,
                "epochs": 3,
                "decoded_steps": 2,
            },
            "prior": {
                "batch_size": 33,
                "epochs": 3,
                "options": {"diffusion": {"blocks": [8, 8, 8], "condition_dim": 8, "time_dim": 8}},
            },
        },
    )


def torchrun(processes: int, *command: str) -> None:
    """Runs it in that many ranks, to a good end."""
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    starter += [f"--nproc-per-node={processes}", *command]
    done = subprocess.run(starter, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def train(service: str, config: Path, store: Path, processes: int) -> None:
    module = f"services.{service}"
    torchrun(processes, "-m", module, "train", "--config", str(config), "--store", str(store))


@pytest.mark.timeout(600)
def test_two_ranks_train_as_one_does(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump(config))
    stores = {count: tmp_path / f"store{count}" for count in (1, 2)}
    for service in ("vae", "prior"):
        for count, store in stores.items():
            train(service, file, store, count)
    for stage in ("vae", "prior"):
        alone, together = (
            read_metrics(path / "logs" / stage / "metrics.csv") for path in stores.values()
        )
        assert alone.keys() == together.keys()
        assert {"loss", "validation/loss"} <= alone.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(together[name], values, rtol=2e-3, atol=1e-4, err_msg=name)
        weights = []
        for published in map(Store, stores.values()):
            (version,) = published.versions(stage)
            assert published.current(stage) == version
            weights.append(published.load(stage, version).tensors)
        for name, expected in weights[0].items():
            np.testing.assert_allclose(weights[1][name], expected, rtol=1e-2, atol=2e-3)
    assert len(Store(stores[2]).versions("latents")) == 1


LEAVES = """
from pathlib import Path

import torch

from ldcq.learning.distributed import joined

def threads():
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]

with joined() as together:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(3, 2)).sum().backward()
    together.sum_gradients(layer.parameters())
    optimizer.step()
    assert threads()
assert not threads(), threads()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists threads as Linux does")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    """One that did would want the interpreter while it ends, and abort the process."""
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    torchrun(2, str(script))


def test_shares_cover_the_batch() -> None:
    for batch in (1, 7, 8):
        rows = [row for rank in range(3) for row in range(batch)[Ranks(rank, 3).share(batch)]]
        assert rows == list(range(batch))
