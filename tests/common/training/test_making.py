"""An artifact is made once for a configuration and its parents, and by the variant that owns it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.rpc.stage import Progress
from common.store import Store
from common.store.timings import lineage_timings
from common.training.context import StageContext
from common.training.making import Making, make_once, run_once
from ldcq.config import BcConfig, Config
from ldcq.nn.model import Dimensions, Model
from ldcq.v1 import stage_pb2
from tests.common.training.toy import TOTAL, ToyLearner

CONFIG = Config.model_validate({"variants": {"bcq_h": {"prior.implementation": "gaussian"}}})
PARENTS = {"vae": "v1", "latents": "l1"}


def context(root: Path, variant: str = "main") -> StageContext:
    return StageContext(CONFIG, Store(root), Progress("prior"), variant)


class Weights(Model):
    def __init__(self, dimensions: Dimensions, config: BcConfig) -> None:
        super().__init__(dimensions, config)
        self.w = torch.nn.Parameter(torch.arange(3.0))


def publish(making: Making) -> str:
    model = Weights(Dimensions(state=2), BcConfig(hidden=3))
    model.kind = making.kind  # type: ignore[misc]
    return making.publish(model, "x")


def refuse(making: Making) -> str:
    raise AssertionError(f"{making.kind} is made again")


def test_an_artifact_is_made_once_and_pointed_to_again(tmp_path: Path) -> None:
    stage = context(tmp_path)
    version, reused = make_once(stage, "prior", PARENTS, publish)
    assert not reused
    artifact = stage.store.load("prior", version)
    assert artifact.tensors["w"].tolist() == [0.0, 1.0, 2.0]
    assert (artifact.meta.implementation, artifact.meta.parents) == ("x", PARENTS)
    assert artifact.meta.dimensions["state"] == 2
    assert artifact.meta.details["hidden"] == 3

    other, reused = make_once(stage, "prior", {**PARENTS, "latents": "l2"}, publish)
    assert not reused
    assert stage.store.current("prior") == other != version
    assert make_once(stage, "prior", PARENTS, refuse) == (version, True)
    assert stage.store.current("prior") == version


def test_the_updates_are_kept_with_the_time(tmp_path: Path) -> None:
    stage = context(tmp_path)

    def trained(making: Making) -> str:
        making.train(ToyLearner(), TOTAL)
        return publish(making)

    version, _ = make_once(stage, "vae", {"dataset": "d"}, trained)
    timing = lineage_timings(stage.store, "vae", version)["vae", version]
    assert (timing.updates, timing.open) == (TOTAL, False)


def test_a_stage_of_one_artifact_says_that_it_is_published(tmp_path: Path) -> None:
    for reused in (False, True):
        stage = context(tmp_path)
        version = run_once(stage, "prior", PARENTS, refuse if reused else publish)
        told = stage.progress.snapshot()
        assert (told.state, told.artifact_version) == (stage_pb2.STAGE_STATE_PUBLISHED, version)
        assert told.reused == reused


@pytest.mark.parametrize(
    ("kind", "owner", "logs"), [("prior", "bcq_h", "prior-bcq_h"), ("vae", "main", "vae")]
)
def test_a_variant_owns_what_it_configures_otherwise(
    tmp_path: Path, kind: str, owner: str, logs: str
) -> None:
    stage = context(tmp_path, "bcq_h")
    assert Making(stage, kind, {}).logs == tmp_path / "logs" / logs
    version, _ = make_once(stage, kind, {}, publish)
    assert stage.store.pointers(kind) == {owner: version}
    assert make_once(stage, kind, {}, refuse) == (version, True)
