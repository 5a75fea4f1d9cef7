"""Training from a table that stays on disk."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from common.store import (
    CorruptArtifactError,
    LatentStream,
    LineageError,
    Store,
    latents_size,
    stream_latents,
)
from ldcq.prior_learner import PriorLearner, training_statistics
from services.prior import streaming
from tests.latent_tables import publish_table
from tests.services.prior.world import small_config, two_modes

CPU = torch.device("cpu")
TABLE = two_modes(1000)


@pytest.fixture
def stream(store: Store, monkeypatch: pytest.MonkeyPatch) -> LatentStream:
    monkeypatch.setattr(streaming, "BLOCK_ROWS", 64)
    monkeypatch.setattr(streaming, "BLOCKS_AT_ONCE", 3)
    version = publish_table(store, TABLE.meta, TABLE)
    return stream_latents(store, version, vae_version="v1", most=1000)


def test_every_training_window_once_an_epoch(stream: LatentStream) -> None:
    pairs = StreamedPairs(stream, 90, 0, CPU)
    assert pairs.steps_per_epoch == 10
    expected = np.sort(TABLE.latent_mean[~TABLE.validation, 0])
    epochs = []
    for epoch in range(2):
        batches = [pairs.batch(10 * epoch + step) for step in range(10)]
        seen = torch.cat([batch.latent_mean[:, 0] for batch in batches]).numpy()
        np.testing.assert_array_equal(np.sort(seen), expected)
        epochs.append(seen)
    assert (epochs[0] != epochs[1]).mean() > 0.9
    rows = {value: row for row, value in enumerate(TABLE.latent_mean[:, 0])}
    order = np.array([rows[value] for value in epochs[0]])
    assert np.abs(np.diff(order)).mean() > 30, "neighbours are apart"
    np.testing.assert_array_equal(batches[-1].states, TABLE.state[[rows[v] for v in seen[-90:]]])


def test_a_batch_is_a_function_of_its_step(stream: LatentStream) -> None:
    pairs = StreamedPairs(stream, 90, 0, CPU)
    later = [pairs.batch(step) for step in range(12)][11]
    torch.testing.assert_close(
        StreamedPairs(stream, 90, 0, CPU).batch(11).states, later.states, rtol=0, atol=0
    )


def test_statistics_and_held_out_windows_are_those_in_memory(stream: LatentStream) -> None:
    pairs = StreamedPairs(stream, 90, 0, CPU)
    expected, found = training_statistics(TABLE), pairs.statistics()
    for field in fields(expected):
        np.testing.assert_allclose(
            getattr(found, field.name), getattr(expected, field.name), rtol=1e-4, atol=1e-5
        )
    rows = np.array([0, 10, 500, 990])
    np.testing.assert_array_equal(pairs.held_out(rows).latent_mean, TABLE.latent_mean[rows])
    assert len(pairs.held_out(rows[:0]).states) == 0


def test_it_learns_from_a_stream(stream: LatentStream) -> None:
    config = small_config(epochs=20, batch_size=90)
    learner = PriorLearner(config, stream, CPU)
    before = float(learner.validate()["loss"])
    for step in range(learner.total):
        learner.update(step)
    assert float(learner.validate()["loss"]) < 0.7 * before


def test_damage_and_other_parents_are_noticed(store: Store, stream: LatentStream) -> None:
    with pytest.raises(LineageError, match="made by VAE v1, expected VAE v2"):
        stream_latents(store, stream.version, vae_version="v2")
    chunks = store.folder("latents") / stream.version / "latent_std" / "c"
    next(path for path in chunks.rglob("*") if path.is_file()).unlink()
    with pytest.raises(CorruptArtifactError, match="latent_std is damaged"):
        stream_latents(store, stream.version)


PROGRAM = """
import sys
from pathlib import Path
import torch
from common.store import Store, open_latents, stream_latents
from services.prior import streaming
from ldcq.prior_learner import PriorLearner
from tests.services.prior.world import small_config, two_modes

def peak():
    # Not getrusage's, which starts at what the parent had.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10

torch.set_num_threads(1)
streaming.BLOCK_ROWS = 4096
PriorLearner(small_config(), two_modes(1000), torch.device("cpu")).update(0)
store, version = Store(sys.argv[1]), sys.argv[2]
before = peak()
learner = PriorLearner(small_config(), stream_latents(store, version), torch.device("cpu"))
for step in range(0, learner.total, learner.total // 40):
    learner.update(step)
print(peak() - before)
open_latents(store, version)
print(peak() - before)
"""


def test_memory_stays_bounded(store: Store, tmp_path: Path) -> None:
    table = two_modes(2_000_000)
    version = publish_table(store, table.meta, table)
    del table
    size = latents_size(store, version)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    printed = subprocess.run(
        [sys.executable, str(program), str(store.root), version],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    ).stdout
    streamed, in_memory = map(int, printed.split())
    assert in_memory > size > 2 * streamed
