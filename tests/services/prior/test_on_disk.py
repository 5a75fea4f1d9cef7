"""Latents that do not fit into memory: the same prior, and a bound on memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.rpc.stage import Progress
from common.store import Meta, Store
from common.training.context import StageContext
from ldcq.config import Config
from services.prior.train import run
from tests.latent_tables import publish_table
from tests.memory import run_measured
from tests.services.prior.world import (
    goal_config,
    publish_latents,
    publish_vae,
    small_config,
    two_modes,
)


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
@pytest.mark.parametrize("make_config", [small_config, goal_config])
def test_the_stage_makes_the_same_from_disk(
    tmp_path: Path, make_config: Any, implementation: str, caplog: pytest.LogCaptureFixture
) -> None:
    versions = []
    for name, memory in (("memory", None), ("disk", 0)):
        caplog.clear()
        config: Config = make_config(implementation)
        training = config.training.model_copy(update={"memory": memory})
        config = config.model_copy(update={"training": training})
        store = Store(tmp_path / name)
        publish_latents(store, config, publish_vae(store, config))
        with caplog.at_level("INFO", "common.store.rows"):
            versions.append(run(StageContext(config, store, Progress("prior"))))
        assert ("kept on disk" in caplog.text) == (memory == 0)
    assert versions[0] == versions[1]


PROGRAM = """
import sys
import torch
from common.store import Store, open_latents
from ldcq.prior_learner import PriorLearner
from tests.memory import most_taken
from tests.services.prior.world import small_config, two_modes

def train(memory):
    learner = PriorLearner(small_config(), open_latents(store, version, memory=memory), CPU)
    for step in range(0, learner.total, learner.total // 40):
        learner.update(step)

torch.set_num_threads(1)
CPU = torch.device("cpu")
PriorLearner(small_config(), two_modes(1000), CPU).update(0)
store, version = Store(sys.argv[1]), sys.argv[2]
print(most_taken(lambda: train(1)))
print(most_taken(lambda: train(None)))
"""


def test_memory_stays_bounded(store: Store) -> None:
    table = two_modes(150_000)
    wide = np.random.default_rng(0).random((len(table), 100), np.float32)
    table = replace(table, state=wide, next_state=wide)
    version = publish_table(store, Meta(kind="latents"), table)
    size = sum(column.nbytes for column in table.columns.values())
    on_disk, in_memory = run_measured(PROGRAM, store.root, version)
    assert in_memory > size > 2 * on_disk
