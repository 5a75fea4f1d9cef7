"""The whole of it, small: `ldcq run` from nothing to scores, again, evaluated, and with processes
killed in the middle of training.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.store import Store
from tests.command import PATIENCE, TINY, ldcq

METHODS = ["ldcq", "bcq_h", "prior", "behaviour"]


pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]


def test_a_run_ends_with_a_row_per_method_and_a_report(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    store, result = finished
    assert [row["method"] for row in result["rows"]] == METHODS
    for row in result["rows"]:
        assert row["return"]["ci_low"] <= row["return"]["mean"] <= row["return"]["ci_high"]
        assert row["first_hit"].keys() == {"mean", "ci_low", "ci_high"}
        assert 0 <= row["success"] <= 1
        assert isinstance(row["seed"], int)
    assert [row["episodes"] for row in result["rows"][:3]] == [3, 3, 3]
    assert not result["nothing_trained"]
    assert "<html" in Path(result["report"]).read_text()[:200].lower()
    json.loads((store / "report.json").read_text())
    assert not (store / "run" / "processes.json").exists()


def test_a_second_run_trains_nothing_and_says_so(finished: tuple[Path, dict[str, Any]]) -> None:
    store, first = finished
    before = {path: path.stat().st_mtime_ns for path in store.glob("artifacts/**/*.safetensors")}
    again = ldcq("run", TINY, "--store", store)
    assert "Nothing was trained" in again.stdout
    assert all(method in again.stdout for method in METHODS)
    assert f"Report: {first['report']}" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_evaluation_uses_what_is_there(finished: tuple[Path, dict[str, Any]]) -> None:
    store, _ = finished
    critic = Store(store).current("critic")
    printed = ldcq("evaluate", TINY, "--store", store, "--episodes", "2", "--json").stdout
    rows = json.loads(printed)["rows"]
    assert [row["method"] for row in rows] == METHODS
    assert [row["episodes"] for row in rows[:3]] == [2, 2, 2]
    assert Store(store).current("critic") == critic


def test_the_status_shows_lineage(finished: tuple[Path, dict[str, Any]]) -> None:
    store, _ = finished
    status = json.loads(ldcq("status", "--store", store, "--json").stdout)
    assert status["processes"] == []
    current = {(item["kind"], item["variant"]): item for item in status["artifacts"]}
    critic, other = current["critic", "main"], current["critic", "bcq_h"]
    assert critic["parents"]["prior"] == current["prior", "main"]["version"]
    assert other["parents"]["prior"] == current["prior", "bcq_h"]["version"]
    assert critic["parents"]["vae"] == other["parents"]["vae"] == current["vae", "main"]["version"]


def test_killed_replicas_and_learners_change_nothing(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    undisturbed, _ = finished
    store = tmp_path / "store"
    command = [sys.executable, "-m", "cli.main", "run", str(TINY), "--store", str(store)]
    with subprocess.Popen(
        [*command, "--replicas", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        # Read while it runs: a full pipe would stop it.
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.extend(_lines(run)), daemon=True)
        reader.start()
        _kill(store, run, "prior-0", when=("critic", 30))
        _kill(store, run, "critic", when=("critic", 60))
        assert run.wait(timeout=PATIENCE) == 0, "".join(output)
        reader.join(10)
    assert "critic died (SIGKILL)" in "".join(output)
    assert "prior-0 died (SIGKILL)" in "".join(output)
    for kind in ("vae", "prior", "critic"):
        assert Store(store).current(kind) == Store(undisturbed).current(kind), kind


def _lines(run: subprocess.Popen[str]) -> Iterator[str]:
    assert run.stderr is not None
    yield from run.stderr


def _kill(store: Path, run: subprocess.Popen[str], name: str, when: tuple[str, int]) -> None:
    """`kill -9` of a process once a stage has logged a step."""
    stage, step = when
    log = store / "logs" / stage / "metrics.csv"
    deadline = time.monotonic() + PATIENCE
    while not _reached(log, step):
        assert run.poll() is None, f"the run ended before {stage} was at step {step}"
        assert time.monotonic() < deadline, f"{stage} did not reach step {step}"
        time.sleep(0.01)
    table = json.loads((store / "run" / "processes.json").read_text())
    pid = next(item["pid"] for item in table if item["name"] == name)
    os.kill(pid, signal.SIGKILL)


def _reached(log: Path, step: int) -> bool:
    if not log.is_file():
        return False
    steps = [line.partition(",")[0] for line in log.read_text().splitlines()[1:]]
    return any(text.isdigit() and int(text) >= step for text in steps)
