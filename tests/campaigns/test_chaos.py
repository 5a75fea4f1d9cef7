"""The checks of the chaos campaign can fail; a short campaign passes."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from campaigns.chaos import KINDS, Run, run
from common.store import Meta, Store


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    """What a run that ended in order leaves."""
    found = Run(tmp_path / "run", disk=False)
    store = Store(found.store)
    parents = {kind: store.publish(Meta(kind=kind), {}, "") for kind in KINDS[:-1]}
    version = store.publish(Meta(kind="evaluation", parents=parents), {}, "")
    (found.folder / "out").write_text(json.dumps({"evaluation_version": version}))
    (found.store / "run").mkdir()
    (found.store / "run" / "lock").touch()
    (found.store / "run" / "vae.log").write_text("listening\n")
    return found


def test_nothing_is_wrong_with_a_run_that_ended_in_order(finished: Run) -> None:
    assert set(finished.versions()) == set(KINDS)
    assert "damaged" not in str(finished.versions())
    assert finished.leftovers() == finished.traces() == []


def test_what_a_run_leaves_is_found(finished: Run) -> None:
    (finished.temporary / "ldcq-left").mkdir()
    (finished.store / "run" / "processes.json").write_text("[]")
    (finished.store / "artifacts" / "vae" / ".tmp-x").mkdir()
    with (finished.store / "run" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = finished.leftovers()
    assert len(found) == 4
    for said in ("ldcq-left", "processes.json", ".tmp-x", "lock is held"):
        assert any(said in line for line in found), said


def test_another_or_a_damaged_critic_and_a_traceback_are_found(finished: Run) -> None:
    before = finished.versions()
    (weights,) = (finished.store / "artifacts" / "critic").glob("*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert finished.versions()["critic"] == f"{before['critic']}, damaged"
    (finished.folder / "out").write_text("")
    assert finished.versions()["evaluation"].startswith("none")
    log = finished.store / "run" / "vae.log"
    log.write_text("Traceback (most recent call last):\n  File x\nValueError\n")
    assert len(finished.traces()) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("pipeline")
def test_a_short_campaign_passes(tmp_path: Path) -> None:
    result = run(8, seed=1, pause=2.0, folder=tmp_path, say=lambda _: None)
    assert result.passed, [check for check in result.checks if not check.passed]
    assert sum(result.figures["happened"].values()) >= 8
