"""The table says what is so: of the modules, of the configuration and of the policies."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import services
from common.rpc.entry import main
from common.stages import STAGES, TRAINED, Stage, ancestors, executed_kinds, needed_stages
from ldcq.config import Config, MethodConfig, override

WITH_PROCESS = [stage for stage in STAGES.values() if stage.module]


def module(stage: Stage, name: str) -> Any:
    return importlib.import_module(f"{stage.module}.{name}")


@pytest.mark.parametrize("stage", WITH_PROCESS, ids=lambda stage: stage.kind)
def test_the_module_of_a_stage_offers_what_the_table_says(stage: Stage) -> None:
    train = module(stage, "train")
    assert stage.kind == train.STAGE
    assert callable(train.run)
    assert module(stage, "__main__").main is main
    assert bool(stage.serves) == bool(find_spec(f"{stage.module}.server"))
    if stage.serves:
        server = module(stage, "server")
        assert callable(server.serve)
        assert f"{stage.serves.capitalize()}Service" in Path(str(server.__file__)).read_text()


def test_every_module_that_trains_is_of_one_stage() -> None:
    root = Path(services.__path__[0])
    found = {".".join(path.relative_to(root.parent).parts[:-1]) for path in root.rglob("train.py")}
    assert sorted(stage.module for stage in WITH_PROCESS) == sorted(found)
    for stage in STAGES.values():
        assert bool(stage.module) != bool(stage.made_by)
        assert not stage.made_by or STAGES[stage.made_by].module


def test_stages_come_after_what_they_are_made_from() -> None:
    before: list[str] = []
    config, images = Config(), override(Config(), {"frames": {}})
    for kind, stage in STAGES.items():
        assert stage.kind == kind
        assert set(ancestors(kind, images)) <= set(before)
        before.append(kind)
    assert ancestors("critic", config) == ("vae", "latents", "prior")
    assert set(ancestors("evaluation", images)) == set(STAGES) - {"candidates", "evaluation"}
    assert ancestors("bc", config) == ()
    assert TRAINED == ("frames", "vae", "prior", "critic", "world_model", "bc")


def test_an_optional_stage_is_there_where_its_section_is() -> None:
    config, images = Config(), override(Config(), {"frames": {}})
    assert [stage.kind for stage in STAGES.values() if stage.optional] == ["frames"]
    for kind in STAGES:
        without = tuple(each for each in ancestors(kind, images) if each != "frames")
        assert ancestors(kind, config) == without
    assert ancestors("vae", images) == ancestors("bc", images) == ("frames",)
    assert needed_stages("ldcq", images) == ("frames", "vae", "prior", "critic")
    assert needed_stages("behaviour", images) == ()


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.kind)
def test_the_sections_of_a_stage_are_in_the_configuration(stage: Stage) -> None:
    assert stage.sections
    for path in stage.sections:
        section: object = Config()
        for part in path.split("."):
            assert isinstance(section, BaseModel)
            assert part in type(section).model_fields
            section = getattr(section, part)


def test_processes_bear_the_name_of_what_they_serve_or_make() -> None:
    names = {stage.kind: stage.process for stage in WITH_PROCESS}
    assert names == {
        "frames": "frames",
        "vae": "vae",
        "prior": "prior-trainer",
        "critic": "critic",
        "world_model": "world_model",
        "bc": "bc",
        "evaluation": "actor",
    }
    ending = {stage.kind for stage in WITH_PROCESS if stage.ends}
    assert ending == {"frames", "prior", "world_model", "bc"}


def test_what_makes_an_artifact_is_said_with_its_variant() -> None:
    assert STAGES["latents"].command() == "`ldcq train vae CONFIG`"
    assert STAGES["candidates"].command("bcq_h") == "`ldcq train critic CONFIG --variant bcq_h`"


def test_every_policy_is_in_the_table_and_needs_stages_that_are() -> None:
    policies, config = get_args(MethodConfig.model_fields["policy"].annotation), Config()
    assert {kind for policy in policies for kind in executed_kinds(policy, config)} <= set(STAGES)
    assert needed_stages("ldcq", config) == ("vae", "prior", "critic")
    assert needed_stages("ldcp", config) == ("vae", "prior", "world_model")
    assert needed_stages("bc", config) == ("bc",)
    assert needed_stages("behaviour", config) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"actor.support": {}},
        {"actor.lookahead": 0.5, "world_model.rewards": True, "critic.dueling": True},
    ],
)
def test_a_critics_choice_that_asks_the_world_model_needs_it(changes: dict[str, object]) -> None:
    config = override(Config(), changes)
    for policy in ("ldcq", "bcq_h"):
        assert executed_kinds(policy, config) == ("critic", "world_model")
        assert needed_stages(policy, config) == ("vae", "prior", "critic", "world_model")
    for policy in ("ldgc", "ldcp", "bc", "prior", "behaviour"):
        assert executed_kinds(policy, config) == executed_kinds(policy, Config())
