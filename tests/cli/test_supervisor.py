"""Processes are started, watched, started again when they die, and all stopped in the end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from cli.plan import ProcessSpec
from cli.supervisor import RunError, Supervisor, Update
from ldcq.v1 import stage_pb2

STAGE = """
import sys, time
from pathlib import Path
from common.rpc import stage
from common.rpc.server import Server
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import stage_pb2_grpc
address, behaviour, marks = sys.argv[1:]
Path(marks).open("a").write("started\\n")
progress = Progress("toy")
server = Server(address)
add = stage_pb2_grpc.add_StageServiceServicer_to_server
server.add(add, StageServicer(progress), stage.FULL_NAME)
server.start()
progress.running(1, 2, message="working")
starts = len(Path(marks).read_text().splitlines())
if behaviour == "fail":
    progress.failed("the data is not there; make it first")
    server.drain()
    print("error: the data is not there")
    sys.exit(1)
if behaviour == "publish" or (behaviour == "publish-second" and starts > 1):
    progress.published("abc", reused=starts > 1)
server.wait()
"""


def _spec(tmp_path: Path, port: int, behaviour: str, name: str = "toy") -> ProcessSpec:
    address = f"127.0.0.1:{port}"
    command = (sys.executable, "-c", STAGE, address, behaviour, str(tmp_path / f"{name}.marks"))
    return ProcessSpec(name, command, address, reports=True)


def _ignore(name: str, update: Update) -> None:
    del name, update


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def test_progress_is_passed_on_until_the_goal_has_published(tmp_path: Path, port: int) -> None:
    seen: list[tuple[str, int]] = []
    spec = _spec(tmp_path, port, "publish")
    with Supervisor([spec], tmp_path, lambda name, up: seen.append((name, up.state))) as run:
        done = run.wait(["toy"])
        table = json.loads((tmp_path / "processes.json").read_text())
        assert table[0]["name"] == "toy"
        assert table[0]["address"] == spec.address
        os.kill(table[0]["pid"], 0)
    assert done["toy"].artifact_version == "abc"
    assert ("toy", stage_pb2.STAGE_STATE_PUBLISHED) in seen
    with pytest.raises(ProcessLookupError):
        os.kill(table[0]["pid"], 0)
    assert not (tmp_path / "processes.json").exists()


def test_a_killed_process_is_started_again_and_watched_again(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    working = threading.Event()

    def on_update(name: str, update: Update) -> None:
        del name
        if update.state == stage_pb2.STAGE_STATE_RUNNING:
            working.set()

    with (
        caplog.at_level(logging.WARNING),
        Supervisor([_spec(tmp_path, port, "publish-second")], tmp_path, on_update) as run,
    ):
        assert working.wait(30)
        pid = json.loads((tmp_path / "processes.json").read_text())[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        done = run.wait(["toy"])
    assert done["toy"].reused
    assert (tmp_path / "toy.marks").read_text().splitlines() == ["started", "started"]
    assert "toy died (SIGKILL)" in caplog.text


def test_a_stage_that_fails_ends_the_run_with_its_reason(tmp_path: Path, port: int) -> None:
    with (
        pytest.raises(RunError, match=r"toy failed: .*the data is not there") as caught,
        Supervisor([_spec(tmp_path, port, "fail")], tmp_path, _ignore) as run,
    ):
        run.wait(["toy"])
    assert str(tmp_path / "toy.log") in str(caught.value)


def test_a_process_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('no luck'); raise SystemExit(7)")
    spec = ProcessSpec("unlucky", command, "127.0.0.1:9", reports=False)
    with (
        pytest.raises(RunError, match=r"unlucky died 5 times \(last exit code 7\): (no luck\s*)+"),
        Supervisor([spec], tmp_path, _ignore) as run,
    ):
        run.wait(["unlucky"])


def test_what_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervisor.STOP_GRACE", 0.5)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    command = (sys.executable, "-u", "-c", script + "print('up'); time.sleep(600)")
    spec = ProcessSpec("stubborn", command, "127.0.0.1:9", reports=False)
    with Supervisor([spec], tmp_path, _ignore):
        while "up" not in (tmp_path / "stubborn.log").read_text():
            time.sleep(0.01)
        pid = json.loads((tmp_path / "processes.json").read_text())[0]["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
