"""A fuzz of seconds finds nothing; a server that does what it must not is found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from campaigns.fuzz import Trial, explore, started
from campaigns.serving import ROOT

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def trial(
    finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    with started(tmp_path_factory.mktemp("fuzz"), finished[0]) as made:
        yield made


def test_the_servers_bear_it(trial: Trial) -> None:
    assert explore(trial, 400, 0) == ""
    assert trial.said() == []
    assert trial.outcomes.total() >= 400
    assert {"Score OK", "Score INVALID_ARGUMENT", "Sample INVALID_ARGUMENT"} <= {
        name.rpartition("/")[2] for name in trial.outcomes
    }


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
