"""LDCQ and BCQ-H as the demo has them, latents valued for several numbers of steps: trained,
evaluated, exported and served.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ldcq
import services.qlearner.world_model.train
from cli.export import export
from common.models import model_of
from common.store import Store, open_latents
from ldcq.config import Config, override
from ldcq.critic.critic import Critic
from ldcq.policies.base import StatefulPolicy
from services.actor import train
from tests.services.actor.conftest import CONFIG, Pipeline, trained
from tests.services.actor.test_server import Actor

SEED = 5
CHANGES = {
    "lengths": [2, 4],
    "critic.dueling": True,
    "critic.fourier_features": 4,
    "critic.target": "expectile_return",
    "critic.schedule": "one_cycle",
    "world_model": {
        "batch_size": 256,
        "epochs": 1,
        "hidden": [16],
        "reference_states": 500,
        "rewards": True,
    },
    "actor.execute_steps": None,
    "actor.lookahead": 0.5,
    "actor.support": {"quantile": 0.5, "kept": 0.3},
    "evaluation.video": False,
    "evaluation.report": False,
}


@pytest.fixture(scope="module")
def valued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    config = override(Config.model_validate(CONFIG), CHANGES)
    with trained(config, Store(tmp_path_factory.mktemp("lengths") / "store")) as made:
        services.qlearner.world_model.train.run(made.context())
        yield made


def test_latents_and_critic_have_what_every_length_needs(valued: Pipeline) -> None:
    table = open_latents(valued.store)
    assert table.part_reward is not None
    assert table.part_state is not None
    assert table.part_reward.shape == (len(table), 2)
    assert table.part_state.shape == (len(table), 2, 4)
    critic = model_of(valued.store.load("critic", str(valued.store.current("critic"))), Critic)
    assert critic.dimensions.lengths == 3
    assert critic.spread.shape == (3,)


def test_nothing_is_drawn_into_a_cache(valued: Pipeline) -> None:
    assert valued.store.versions("candidates") == []


def test_it_is_evaluated(valued: Pipeline) -> None:
    evaluation = valued.store.load("evaluation", train.run(valued.context()))
    assert evaluation.meta.parents["world_model"] == valued.store.current("world_model")


@pytest.mark.parametrize("method", ["ldcq", "bcq_h"])
def test_the_folder_acts_as_the_service_does_to_the_bit(
    valued: Pipeline, method: str, tmp_path: Path
) -> None:
    assert export(valued.store, valued.config, method, tmp_path / "policy") == method
    local = ldcq.load_policy(tmp_path / "policy", seed=SEED)
    assert isinstance(local, StatefulPolicy)
    random, first = np.random.default_rng(0), None
    actor = Actor(valued, valued.store, valued.targets)
    try:
        actor.wait_until_serving()
        with ldcq.connect(actor.address, method=method, seed=SEED) as remote:
            for _ in range(25):
                observations = random.normal(size=(12, 4)).astype(np.float32)
                assert np.array_equal(remote.act(observations), local.act(observations))
                assert local._plan is not None
                first = local._plan.steps_left + 1 if first is None else first
    finally:
        actor.stop()
    assert first is not None
    assert set(first.tolist()) <= {2, 4, 8}, "lengths, and H"
