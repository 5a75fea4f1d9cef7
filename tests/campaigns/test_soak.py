"""A soak of seconds finds nothing wrong, and one with a fault does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from campaigns.serving import ROOT
from campaigns.soak import Sizes, Traffic

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(300)]


def test_no_call_fails_and_nothing_goes_wrong(finished: tuple[Path, dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "campaigns.soak", "--calls", "3000", "--clients", "4"]
    command += ["--store", str(finished[0]), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    # Seconds are too short for memory to settle; all else holds from the first call on.
    failed = [check for check in found["checks"] if not check["passed"]]
    assert [check for check in failed if "after the warm-up" not in check["name"]] == []
    outcomes = found["figures"]["outcomes"]
    assert {name.split()[1] for name in outcomes} <= {"OK", "left"}
    assert sum(outcomes.values()) == 3000
    assert found["passed"] == (not failed) == (done.returncode == 0)


class _Server:
    name = "prior"

    def __init__(self) -> None:
        self.sizes = [(100, 10), (100, 10), (200, 10), (202, 10), (201, 11), (203, 11)]

    def size(self) -> tuple[int, int]:
        return self.sizes.pop(0)


def test_growth_is_measured_after_the_warm_up() -> None:
    server: Any = _Server()
    sizes = Sizes([server])
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        sizes.look(share)
    assert sizes.growth() == {"prior": {"memory_percent": 1.5, "threads": 1.0}}


def test_another_answer_to_the_same_request_is_noticed() -> None:
    traffic = Traffic(2)
    assert traffic.same(0, "v1", b"a")
    assert traffic.same(0, "v2", b"b")
    assert traffic.same(1, "v1", b"c")
    assert not traffic.same(0, "v1", b"b")
    assert [traffic.take() for _ in range(3)] == [True, True, False]
