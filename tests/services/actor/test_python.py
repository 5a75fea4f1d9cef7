"""A user's Python: the exported policy and the served one are the same policy."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ldcq
from cli.export import export
from cli.supervisor import RunError
from common.rpc.errors import CallError
from common.rpc.policy import RemotePolicy
from common.store import NotMadeError, Store
from ldcq.config import ConfigError, override
from ldcq.policies.folder import PolicyFolderError
from tests.services.actor.conftest import Pipeline
from tests.services.actor.test_server import Actor

METHODS = ("ldcq", "bcq_h", "prior")
SEED = 5


@pytest.fixture(scope="module")
def actor(pipeline: Pipeline) -> Iterator[Actor]:
    started = Actor(pipeline, pipeline.store, pipeline.targets)
    started.wait_until_serving()
    yield started
    started.stop()


def _exported(pipeline: Pipeline, method: str, folder: Path) -> Path:
    assert export(pipeline.store, pipeline.config, method, folder) == method
    return folder


def _observations(count: int, environments: int = 7) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, environments, 4)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_the_folder_acts_as_the_service_does_to_the_bit(
    pipeline: Pipeline, actor: Actor, method: str, tmp_path: Path
) -> None:
    """Over several plans, with resets of some environments and of all."""
    local = ldcq.load_policy(_exported(pipeline, method, tmp_path / "policy"), seed=SEED)
    random = np.random.default_rng(1)
    with ldcq.connect(actor.address, method=method, seed=SEED) as remote:
        for step, observations in enumerate(_observations(30)):
            if step % 7 == 6:
                mask = None if step == 20 else random.random(7) < 0.5
                for policy in (local, remote):
                    policy.reset(mask)
                    policy.reset(mask)
            expected, found = remote.act(observations), local.act(observations)
            assert found.dtype == expected.dtype == np.float32
            assert found.shape == (7, 2)
            assert np.array_equal(found, expected)


def test_another_seed_acts_otherwise(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = _exported(pipeline, "prior", tmp_path / "policy")
    first, again, other = (ldcq.load_policy(folder, seed=seed) for seed in (0, 0, 1))
    (observations,) = _observations(1)
    assert np.array_equal(first.act(observations), again.act(observations))
    assert not np.array_equal(first.act(observations), other.act(observations))


def test_a_reset_plans_anew_where_it_says(pipeline: Pipeline, tmp_path: Path) -> None:
    policy = ldcq.load_policy(_exported(pipeline, "prior", tmp_path / "policy"))
    kept = ldcq.load_policy(tmp_path / "policy")
    first, second = _observations(2, environments=2)
    policy.act(first)
    kept.act(first)
    policy.reset(np.array([True, False]))
    changed, same = policy.act(second), kept.act(second)
    assert not np.array_equal(changed[0], same[0])
    assert np.array_equal(changed[1], same[1])


def test_folders_are_safetensors_and_json_that_anyone_may_read(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = _exported(pipeline, "ldcq", tmp_path / "new" / "policy")
    names = {"policy.json", "vae.safetensors", "prior.safetensors", "critic.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    assert {stat.S_IMODE(path.stat().st_mode) & 0o044 for path in folder.iterdir()} == {0o044}
    description = json.loads((folder / "policy.json").read_text())
    assert description["policy"] == "ldcq"
    assert description["models"]["critic"]["version"] == pipeline.store.current("critic")
    assert [path.name for path in folder.parent.iterdir()] == ["policy"], "nothing half-written"


def test_what_cannot_be_exported_is_said(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--method behaviour: expected a method .*ldcq, bcq_h"):
        export(pipeline.store, pipeline.config, "behaviour", tmp_path / "policy")
    with pytest.raises(NotMadeError, match="needs the vae of 'main'"):
        export(Store(tmp_path / "empty"), pipeline.config, None, tmp_path / "policy")
    assert not (tmp_path / "policy").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(PolicyFolderError, match="is not empty, expected a new or empty one"):
        export(pipeline.store, pipeline.config, None, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


@pytest.mark.parametrize("file", ["policy.json", "vae.safetensors", "critic.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_folder_is_refused(
    pipeline: Pipeline, file: str, damage: str, tmp_path: Path
) -> None:
    path = _exported(pipeline, "ldcq", tmp_path / "policy") / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PolicyFolderError, match="holds no whole policy"):
        ldcq.load_policy(tmp_path / "policy")


def _rewrite(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_folders_of_another_kind_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = _exported(pipeline, "ldcq", tmp_path / "policy")
    _rewrite(folder, {"policy": "sorcery"})
    with pytest.raises(PolicyFolderError, match="got 'sorcery'"):
        ldcq.load_policy(folder)
    _rewrite(folder, {"format": 99})
    with pytest.raises(PolicyFolderError, match="got format 99, expected 1"):
        ldcq.load_policy(folder)
    with pytest.raises(PolicyFolderError, match="holds no whole policy"):
        ldcq.load_policy(tmp_path)


def test_a_folder_imports_no_function_that_it_names(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = _exported(pipeline, "ldcq", tmp_path / "policy")
    config = override(pipeline.config, {"actor.planning.cost": "antigravity:anything"})
    _rewrite(folder, {"policy": "ldcp", "config": config.model_dump(mode="json")})
    with pytest.raises(ConfigError, match=r"cost: got none, .*antigravity:anything"):
        ldcq.load_policy(folder)


BAD = {
    "one environment": (np.zeros(4), r"shape \(4,\), expected \(E, 4\).*observations\[None\]"),
    "width": (np.zeros((7, 3)), r"shape \(7, 3\), expected \(E, 4\)"),
    "NaN": (np.full((7, 4), np.nan), "NaN or infinity"),
    "words": (np.array([["a"]]), "expected an array of numbers"),
    "none": (np.zeros((0, 4)), r"shape \(0, 4\)"),
    "others": (np.zeros((6, 4)), "got 6 environments, expected the 7"),
}


@pytest.mark.parametrize("given", BAD)
def test_bad_observations_are_refused_alike(
    pipeline: Pipeline, actor: Actor, given: str, tmp_path: Path
) -> None:
    observations, message = BAD[given]
    local = ldcq.load_policy(_exported(pipeline, "ldcq", tmp_path / "policy"))
    with ldcq.connect(actor.address) as remote:
        for policy in (local, remote):
            policy.act(_observations(1)[0])
            with pytest.raises(ValueError, match=message):
                policy.act(observations)
            with pytest.raises(ValueError, match=r"mask: got shape \(3,\), expected \(7,\)"):
                policy.reset(np.zeros(3, bool))
            assert policy.act(_observations(1)[0]).shape == (7, 2), "it goes on"


def test_a_remote_policy_says_who_it_is_not(actor: Actor) -> None:
    with pytest.raises(ValueError, match="got 'nope', expected one of ldcq, bcq_h, prior"):
        ldcq.connect(actor.address, method="nope")
    with pytest.raises(CallError, match=r"actor at 127.0.0.1:1: UNAVAILABLE.*ldcq serve actor"):
        RemotePolicy("127.0.0.1:1", timeout=20)
