"""LDCQ and BCQ-H whose choice keeps to the data: evaluated, exported, served and diagnosed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldcq
import services.qlearner.world_model.train
from cli.diagnose import diagnose
from cli.export import export
from cli.supervisor import RunError
from common.store import Artifact, NotMadeError, Store
from ldcq.config import override
from services.actor import train
from services.actor.report.wording import method_explanations
from tests.services.actor.conftest import Pipeline
from tests.services.actor.test_server import Actor

SEED = 5
OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 7, 4)).astype(np.float32)


def _copy(pipeline: Pipeline, root: Path) -> Pipeline:
    """The pipeline with the check configured, no world model yet and no evaluation."""
    no_scores = shutil.ignore_patterns("evaluation")
    shutil.copytree(pipeline.store.root, root, symlinks=True, ignore=no_scores)
    config = override(
        pipeline.config,
        {
            "world_model": {"batch_size": 256, "epochs": 1, "hidden": [16]},
            "world_model.reference_states": 500,
            "actor.support": {"quantile": 0.5, "kept": 0.2},
            "evaluation.video": False,
            "evaluation.report": False,  # drawing it takes longer than all the rest
            "evaluation.episodes": 2,
        },
    )
    return Pipeline(config, Store(root), pipeline.targets)


@pytest.fixture(scope="module")
def checked(
    pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, Artifact]:
    """With the world model, and its evaluation."""
    made = _copy(pipeline, tmp_path_factory.mktemp("support") / "store")
    services.qlearner.world_model.train.run(made.context())
    return made, made.store.load("evaluation", train.run(made.context()))


def test_an_evaluation_descends_from_the_world_model_and_says_how_it_chose(
    checked: tuple[Pipeline, Artifact],
) -> None:
    made, evaluation = checked
    rows: Any = evaluation.meta.details["rows"]
    assert {row["method"]: row["supported"] for row in rows} == {
        "ldcq": True,
        "bcq_h": True,
        "prior": False,
        "behaviour": False,
    }
    version = made.store.current("world_model")
    assert version
    assert evaluation.meta.parents["world_model"] == version
    assert "world_model.bcq_h" not in evaluation.meta.parents, "one for both"
    spec: Any = evaluation.meta.spec
    assert spec["config"]["actor"]["support"] == {"quantile": 0.5, "kept": 0.2}
    assert spec["parents"]["world_model"] == version
    said = dict(method_explanations(rows, {"main": "diffusion", "bcq_h": "gaussian"}))
    assert "values most, of those that lead to where the data are." in said["LDCQ"]


@pytest.mark.parametrize("method", ["ldcq", "bcq_h"])
def test_the_folder_acts_as_the_service_does_and_otherwise_than_without(
    checked: tuple[Pipeline, Artifact], method: str, tmp_path: Path
) -> None:
    made, _ = checked
    assert export(made.store, made.config, method, tmp_path / "policy") == method
    assert (tmp_path / "policy" / "world_model.safetensors").is_file()
    export(made.store, override(made.config, {"actor.support": None}), method, tmp_path / "free")
    assert not (tmp_path / "free" / "world_model.safetensors").exists()
    local = ldcq.load_policy(tmp_path / "policy", seed=SEED)
    free = ldcq.load_policy(tmp_path / "free", seed=SEED)
    same = []
    actor = Actor(made, made.store, made.targets)
    try:
        actor.wait_until_serving()
        with ldcq.connect(actor.address, method=method, seed=SEED) as remote:
            for observations in OBSERVATIONS:
                expected, found = remote.act(observations), local.act(observations)
                assert np.array_equal(found, expected)
                same.append(np.array_equal(free.act(observations), found))
    finally:
        actor.stop()
    assert not all(same)


def test_without_the_world_model_nothing_acts_until_it_is_published(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    made = _copy(pipeline, tmp_path / "store")
    with pytest.raises(NotMadeError, match="needs the world_model of 'main'"):
        export(made.store, made.config, "ldcq", tmp_path / "policy")
    actor = Actor(made, made.store, made.targets)
    try:
        assert "ldcq" not in actor.methods.ready
        services.qlearner.world_model.train.run(made.context())
        deadline = time.monotonic() + 20
        while actor.methods.ready != ["ldcq", "bcq_h", "prior"]:
            assert time.monotonic() < deadline, actor.methods.ready
            time.sleep(0.02)
        models = actor.methods.models("ldcq")
        assert models.parents["world_model"] == made.store.current("world_model")
        assert models.goal_dim == 0, "it plans towards no goal"
    finally:
        actor.stop()


def test_it_is_diagnosed_as_it_acts(checked: tuple[Pipeline, Artifact], tmp_path: Path) -> None:
    found = diagnose(checked[0].store, None, 0, tmp_path, print)
    supports = {policy["policy"].split()[1]: policy["support"] for policy in found["policies"]}
    assert supports == {"ldcq": "0.5, 0.2", "bcq_h": "0.5, 0.2"}
    shutil.copytree(checked[0].store.root, tmp_path / "store", symlinks=True)
    shutil.rmtree(tmp_path / "store" / "artifacts" / "world_model")
    with pytest.raises(RunError, match=r"no world model .*`ldcq train world_model CONFIG`"):
        diagnose(Store(tmp_path / "store"), None, 0, tmp_path, print)
