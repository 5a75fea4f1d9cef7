"""Windows and candidates that do not fit into memory: the same critic, and a bound on memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.store import LatentTable, Meta, RowFile, Store, latents_size, stream_latents
from ldcq.config import Config
from ldcq.critic import transitions
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import StoredTransitions, Transitions, training_rows
from tests.latent_tables import publish_table
from tests.memory import run_measured

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


def large_table(rows: int, state_dim: int) -> LatentTable:
    random = np.random.default_rng(0)
    state = random.random((rows, state_dim), np.float32)
    latent = random.random((rows, 8), np.float32)
    reward = random.random(rows, np.float32)
    return LatentTable(
        version="made up",
        meta=Meta(kind="latents", parents={"vae": "v1"}),
        state=state,
        latent_mean=latent,
        latent_std=np.full_like(latent, 0.5),
        reward=reward,
        discount=np.full_like(reward, 0.9),
        next_state=state[::-1],
        episode=np.arange(rows),
        step=np.zeros(rows, np.int64),
        validation=np.arange(rows) % 10 == 0,
    )


def updated(config: Config, windows: Transitions | StoredTransitions, cached: Any) -> Any:
    replay = PrioritisedReplay(config.critic.replay, len(windows))
    learner = LDCQ(config, windows, replay, CachedCandidates(config, cached, replay))
    for step in range(20):
        learner.update(step)
    return learner.state_dict()


def test_the_critic_is_the_same_from_disk(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "BLOCK_BYTES", 10_000)
    config, store = make_config(windows=800), Store(tmp_path)
    table = large_table(1000, 5)
    stream = stream_latents(store, publish_table(store, table.meta, table))
    rows = training_rows(stream, config.critic.windows, 0)
    np.testing.assert_array_equal(rows, training_rows(table, config.critic.windows, 0))
    cached = np.random.default_rng(1).normal(size=(len(rows), 6, 8)).astype(np.float16)
    on_disk = RowFile(tmp_path, np.float16, (6, 8))
    on_disk.append(cached)

    windows = StoredTransitions(stream, rows, tmp_path, CPU)
    np.testing.assert_array_equal(windows.next_states(np.array([7])), table.next_state[rows[[7]]])
    found = updated(config, windows, on_disk)
    for source in (stream, table):
        expected = updated(config, Transitions.of(source, rows, CPU), cached)
        for name in ("critic", "target", "replay"):
            for key, value in expected[name].items():
                np.testing.assert_array_equal(found[name][key], value)
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]


PROGRAM = """
import sys
import numpy as np, torch
from ldcq.config import Config
from common.store import RowFile, Store, open_latents, stream_latents
from ldcq.critic.transitions import StoredTransitions, Transitions, training_rows
from tests.memory import held, peak
from tests.services.qlearner.test_on_disk import CPU, large_table, updated

torch.set_num_threads(1)
critic = {"hidden": (16,), "batch_size": 256, "candidates": 8, "cached_candidates": 8}
config = Config.model_validate({"device": "cpu", "critic": critic})
store, version = Store(sys.argv[1]), sys.argv[2]
small = large_table(300, 100)
updated(config, Transitions.of(small, np.arange(300), CPU), np.zeros((300, 8, 8), np.float16))
before = held()
table = stream_latents(store, version)
rows = training_rows(table, None, 0)
cached = RowFile(store.root, np.float16, (8, 8))
for start in range(0, len(rows), 1000):
    cached.append(np.zeros((len(rows[start : start + 1000]), 8, 8)))
updated(config, StoredTransitions(table, rows, store.root, CPU), cached)
print(peak() - before)
Transitions.of(table, rows, CPU)
print(peak() - before)
"""


def test_memory_stays_bounded(tmp_path: Path) -> None:
    store, table = Store(tmp_path), large_table(150_000, 100)
    version = publish_table(store, table.meta, table)
    size = latents_size(store, version)
    on_disk, in_memory = run_measured(PROGRAM, tmp_path, version)
    assert in_memory > 0.9 * size
    assert on_disk < 0.5 * size
