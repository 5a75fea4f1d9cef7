"""LDCP and BC over trained models and a real prior service."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import services.qlearner.world_model.train
import services.vae.bc.train
from common.models import model_of
from common.store import Artifact, LineageError, Store
from ldcq.bc import Bc
from ldcq.config import Config, ConfigError, override
from ldcq.nn.model import Dimensions
from ldcq.policies.bc import BcPolicy
from ldcq.world_model import WorldModel
from services.actor import train
from services.actor.method_policy import method_policy
from services.actor.models import Models, Predictor, method_models
from services.actor.priors import Priors
from services.actor.report.wording import method_explanations, stage_title
from tests.ldcq.policies.standins import decoder
from tests.services.actor.conftest import Pipeline


def _configured(**changes: object) -> Config:
    return override(Config(), {"evaluation.methods": {"ldcp": {"policy": "ldcp"}}, **changes})


def test_the_stage_refuses_it_before_it_waits_for_models(tmp_path: Path) -> None:
    empty = Pipeline(_configured(**{"actor.planning.cost": "manhattan"}), Store(tmp_path), {})
    with pytest.raises(ConfigError, match="manhattan"):
        train.run(empty.context())


@pytest.fixture(scope="module")
def planning(
    pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, Artifact]:
    """A copy of the pipeline with both new stages, and its evaluation of methods that use them."""
    root = tmp_path_factory.mktemp("planning") / "store"
    shutil.copytree(pipeline.store.root, root, symlinks=True)
    quick = {"batch_size": 256, "epochs": 1}
    config = override(
        pipeline.config,
        {
            "data.goal_indices": [0, 1],
            "world_model": {**quick, "hidden": [16]},
            "bc": {**quick, "hidden": 16},
            "actor.planning": {"depth": 2, "candidates": 5},
            "evaluation.video": False,
            "evaluation.report": False,  # drawing it takes longer than all the rest
            "evaluation.episodes": 2,
            "evaluation.methods": {
                "ldcp": {"policy": "ldcp"},
                "bcp": {"policy": "ldcp", "variant": "bcq_h"},
                "bc": {"policy": "bc"},
                "behaviour": {"policy": "behaviour"},
            },
        },
    )
    made = Pipeline(config, Store(root), pipeline.targets)
    services.qlearner.world_model.train.run(made.context())
    services.vae.bc.train.run(made.context())
    return made, made.store.load("evaluation", train.run(made.context()))


def test_rows_and_lineage_of_ldcp_and_bc(
    planning: tuple[Pipeline, Artifact],
) -> None:
    made, evaluation = planning
    rows: Any = evaluation.meta.details["rows"]
    assert [row["method"] for row in rows] == ["ldcp", "bcp", "bc", "behaviour"]
    assert [row["candidates"] for row in rows] == [5, 5, None, None]
    assert [row["depth"] for row in rows] == [2, 2, None, None]
    assert [row["execute_steps"] for row in rows] == [4, 4, 1, None]
    store = made.store
    assert evaluation.meta.parents == {
        "dataset": store.meta("bc", store.current("bc") or "").parents["dataset"],
        "vae": store.current("vae"),
        "prior": store.current("prior"),
        "prior.bcq_h": store.current("prior", "bcq_h"),
        "world_model": store.current("world_model"),
        "bc": store.current("bc"),
    }
    explained = dict(method_explanations(rows, {"main": "diffusion", "bcq_h": "gaussian"}))
    assert "5 latents from the gaussian prior" in explained["bcp"]
    assert "2 in a row" in explained["bcp"]
    assert "chosen anew at every step" in explained["BC"]
    assert stage_title("world_model") == "World model: where a latent leads"


def test_bc_acts_on_the_state_it_sees(planning: tuple[Pipeline, Artifact]) -> None:
    made, _ = planning
    artifact = made.store.load("bc", made.store.current("bc") or "")
    network = model_of(artifact, Bc)
    used = Models(network, None, "", "", "", bc_version=artifact.version)
    with Priors(made.config, {}, made.store) as none:  # and needs no prior service
        played = method_policy(made.config, "bc", used, none)
    assert isinstance(played.policy, BcPolicy)
    assert played.policy.goal_dim == 0
    states = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    actions, _ = played.policy.act(states, None, None, None, 0)
    expected = network.act(torch.tensor(states), torch.zeros(6, 0))
    np.testing.assert_allclose(actions, expected.numpy(), rtol=1e-5)
    assert played.models.versions == f"bc={artifact.version}"


def test_a_world_model_of_another_vae_is_refused() -> None:
    model = WorldModel(Dimensions(state=2, latent=2), Config().world_model)
    models = Models(decoder(state=2), None, "v", "p", "p")
    config = _configured(**{"data.goal_indices": [0, 1]})
    with pytest.raises(LineageError, match="world_model w knows latents of VAE other, but prior p"):
        method_models(config, "ldcp", [models, Predictor(model, "w", "other")])
    joined = method_models(config, "ldcp", [models, Predictor(model, "w2", "v")])
    assert joined.goal_dim == 2
    assert joined.parents == {"vae": "v", "prior": "p", "world_model": "w2"}
