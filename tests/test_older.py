"""A finished store: read-only, and with an older configuration than the one that is current."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from common.rpc.clients import PriorClient
from common.store import Store
from tests.command import REPORT, TINY, ldcq
from tests.read_only import read_only

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]


@contextmanager
def _serving(*options: str | Path) -> Any:
    command = [sys.executable, "-m", "cli.main", "serve", "prior", *map(str, options)]
    command += ["--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            target = process.stdout.readline().removeprefix("listening on ").strip()
            with PriorClient(target) as client:
                yield client.wait_ready(lambda _: None, threading.Event())
        finally:
            process.terminate()


def test_a_store_that_can_only_be_read_is_served_inspected_and_evaluated(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "scratch"))
    own = tmp_path / "own"
    shutil.copytree(finished[0], own)
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    with read_only(own, tmp_path / "ro") as store:
        with _serving("--store", store) as served:
            assert served.model_version == Store(own).current("prior")
        status = json.loads(ldcq("status", "--store", store, "--json").stdout)
        assert {item["kind"] for item in status["artifacts"]} >= {"vae", "prior", "critic"}
        done = ldcq("evaluate", TINY, "--store", store, "--episodes", "2", "--json", *REPORT)
        result = json.loads(done.stdout)
        assert [row["episodes"] for row in result["rows"][:3]] == [2, 2, 2]
        assert f"{store} can only be read: results go to {tmp_path / 'scratch'}" in done.stderr
        assert Path(result["report"]).is_relative_to(tmp_path / "scratch")
        assert Path(result["report"]).is_file()
        ldcq("export", store, tmp_path / "policy", "--method", "ldcq")
        assert {path: path.stat().st_mtime_ns for path in before} == before
        refused = subprocess.run(
            [sys.executable, "-m", "cli.main", "run", str(TINY), "--store", str(store)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert refused.returncode == 2
        assert f"store {store} is not writable: this user may only read it" in refused.stderr


def test_an_older_configuration_is_evaluated_and_served_and_nothing_moves(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished[0], store)
    kinds = ("vae", "prior", "critic")
    older = {kind: Store(store).current(kind) for kind in kinds}
    newer = ("--store", store, "--set", "vae.epochs=3")
    ldcq("train", "vae", TINY, *newer)
    ldcq("train", "prior", TINY, *newer)
    now = {kind: Store(store).current(kind) for kind in kinds}
    assert now["prior"] != older["prior"]
    printed = json.loads(
        ldcq("evaluate", TINY, "--store", store, "--episodes", "2", "--json").stdout
    )
    found = Store(store).meta("evaluation", printed["evaluation_version"]).parents
    assert {kind: found[kind] for kind in kinds} == older
    assert {kind: Store(store).current(kind) for kind in kinds} == now
    with _serving(TINY, "--store", store) as served:
        assert served.model_version == older["prior"]
    with _serving("--store", store) as served:
        assert served.model_version == now["prior"]
