"""A fuzz of seconds finds nothing; a server that does what it must not is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from campaigns.fuzz import Trial, explore, started
from campaigns.serving import ROOT

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(300)]


def test_the_servers_bear_it(finished: tuple[Path, dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "campaigns.fuzz", "--cases", "400"]
    command += ["--store", str(finished[0]), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert [check for check in found["checks"] if not check["passed"]] == []
    assert done.returncode == 0
    outcomes = found["figures"]["outcomes"]
    assert sum(outcomes.values()) >= 400
    assert {"Score OK", "Score INVALID_ARGUMENT", "Sample INVALID_ARGUMENT"} <= {
        name.rpartition("/")[2] for name in outcomes
    }


@pytest.fixture(scope="module")
def trial(
    finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    with started(tmp_path_factory.mktemp("fuzz"), finished[0]) as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((grpc.StatusCode.UNKNOWN, "boom"), "UNKNOWN: boom"),
        ((grpc.StatusCode.INTERNAL, "see the log"), "INTERNAL"),
        ((grpc.StatusCode.INVALID_ARGUMENT, f"no file {ROOT}/x"), "tells"),
    ],
)
def test_what_must_not_be_is_found(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[grpc.StatusCode, str],
    complaint: str,
) -> None:
    honest = trial._answer

    def faulty(method: Any, content: bytes) -> tuple[grpc.StatusCode, str]:
        """An answer to requests in order that no server may give."""
        code, details = honest(method, content)
        return answer if method.computes and code is grpc.StatusCode.OK else (code, details)

    monkeypatch.setattr(trial, "_answer", faulty)
    assert complaint in explore(trial, 300, 0)
