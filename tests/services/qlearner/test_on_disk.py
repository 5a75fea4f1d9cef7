"""Windows and candidates that do not fit into memory: the same critic, and a bound on memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.store import Meta, Room, Store, open_latents
from ldcq.config import Config
from ldcq.critic import transitions
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions, training_rows
from ldcq.data.latents import LatentTable
from tests.latent_tables import publish_table
from tests.memory import run_measured

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")
META = Meta(kind="latents", parents={"vae": "v1"})


def large_table(rows: int, state_dim: int) -> LatentTable:
    random = np.random.default_rng(0)
    state = random.random((rows, state_dim), np.float32)
    latent = random.random((rows, 8), np.float32)
    reward = random.random(rows, np.float32)
    return LatentTable(
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


def updated(config: Config, windows: Transitions, cached: Any) -> Any:
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
    mapped = open_latents(store, publish_table(store, META, table), memory=0)
    assert all(isinstance(column, np.memmap) for column in mapped.columns.values())
    rows = training_rows(mapped, config.critic.windows, 0)
    np.testing.assert_array_equal(rows, training_rows(table, config.critic.windows, 0))
    room = Room(tmp_path, 0)
    cached = np.random.default_rng(1).normal(size=(len(rows), 6, 8)).astype(np.float16)
    on_disk = room(cached.shape, cached.dtype)
    on_disk[:] = cached

    windows = Transitions.of(mapped, rows, CPU, room)
    np.testing.assert_array_equal(windows.next_states(np.array([7])), table.next_state[rows[[7]]])
    found = updated(config, windows, on_disk)
    expected = updated(config, Transitions.of(table, rows, CPU), cached)
    for name in ("critic", "target", "replay"):
        for key, value in expected[name].items():
            np.testing.assert_array_equal(found[name][key], value)
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]


def test_what_lies_between_is_the_same_from_disk(tmp_path: Path) -> None:
    random, store = np.random.default_rng(0), Store(tmp_path)
    reward, state = random.random((100, 2), np.float32), random.random((100, 2, 5), np.float32)
    table = replace(large_table(100, 5), part_reward=reward, part_state=state)
    mapped = open_latents(store, publish_table(store, META, table), memory=0)
    rows = np.array([3, 40, 41, 99])
    windows = Transitions.of(mapped, rows, CPU, Room(tmp_path, 0))
    batch = windows.batch(np.array([2, 0]))
    assert batch.part_reward is not None
    assert batch.part_state is not None
    np.testing.assert_array_equal(batch.part_reward, reward[rows[[2, 0]]])
    np.testing.assert_array_equal(batch.part_state, state[rows[[2, 0]]])


PROGRAM = """
import sys
import numpy as np, torch
from ldcq.config import Config
from common.store import Room, Store, open_latents
from ldcq.critic.transitions import Transitions, training_rows
from tests.memory import most_taken
from tests.services.qlearner.test_on_disk import CPU, large_table, updated

torch.set_num_threads(1)
critic = {"hidden": (16,), "batch_size": 256, "candidates": 8, "cached_candidates": 8}
config = Config.model_validate({"device": "cpu", "critic": critic})
store, version = Store(sys.argv[1]), sys.argv[2]
small = large_table(300, 100)
updated(config, Transitions.of(small, np.arange(300), CPU), np.zeros((300, 8, 8), np.float16))

def train(memory):
    table = open_latents(store, version, memory=memory)
    rows, room = training_rows(table, None, 0), Room(store.root, memory)
    cached = room((len(rows), 8, 8), np.float16)
    cached[:] = 0
    updated(config, Transitions.of(table, rows, CPU, room), cached)

print(most_taken(lambda: train(1)))
print(most_taken(lambda: train(None)))
"""


def test_memory_stays_bounded(tmp_path: Path) -> None:
    store, table = Store(tmp_path), large_table(150_000, 100)
    version = publish_table(store, META, table)
    size = sum(column.nbytes for column in table.columns.values())
    on_disk, in_memory = run_measured(PROGRAM, tmp_path, version)
    assert in_memory > size > 2 * on_disk
