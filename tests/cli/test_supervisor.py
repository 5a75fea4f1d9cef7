"""Processes are started, watched, started again when they die, and all stopped in the end."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cli import record
from cli.interrupts import Interrupted
from cli.plan import Plan, ProcessSpec, ReplicaGroup
from cli.record import WantedReplicas
from cli.scale import scale_prior
from cli.supervisor import RunError, Supervisor, Update
from common.rpc import metrics_targets
from ldcq.v1 import stage_pb2

TOY = "tests.cli.toy"


def _spec(tmp_path: Path, port: int, behaviour: str, name: str = "toy") -> ProcessSpec:
    address = f"127.0.0.1:{port}"
    arguments = (behaviour, address, str(tmp_path / f"{name}.marks"))
    return ProcessSpec(name, TOY, arguments, address, reports=True)


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
    with Supervisor(Plan((spec,)), tmp_path, lambda name, up: seen.append((name, up.state))) as run:
        done = run.wait()
        table = json.loads((tmp_path / "processes.json").read_text())
        assert table[0]["name"] == "toy"
        assert table[0]["address"] == spec.address
        os.kill(table[0]["pid"], 0)
    assert done["toy"].artifact_version == "abc"
    assert ("toy", stage_pb2.STAGE_STATE_PUBLISHED) in seen
    with pytest.raises(ProcessLookupError):
        os.kill(table[0]["pid"], 0)
    assert not (tmp_path / "processes.json").exists()


def test_a_stage_that_waits_for_what_no_process_makes_ends_the_run(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervisor.STUCK_SECONDS", 0.5)
    said = "toy is waiting for vae of main\nNo process of this command makes that"
    plan = Plan((_spec(tmp_path, port, "wait vae"),))
    with Supervisor(plan, tmp_path, _ignore) as run, pytest.raises(RunError, match=said):
        run.wait()


def test_a_stage_that_waits_for_a_service_is_waited_for(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervisor.STUCK_SECONDS", 0.0)
    waiting = threading.Event()

    def on_update(_name: str, update: Update) -> None:
        if update.state == stage_pb2.STAGE_STATE_WAITING:
            waiting.set()

    with Supervisor(Plan((_spec(tmp_path, port, "wait "),)), tmp_path, on_update) as run:

        def interrupt() -> None:
            waiting.wait(30)
            time.sleep(0.5)
            run.interrupt(signal.SIGTERM)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(Interrupted):
            run.wait()


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
        Supervisor(Plan((_spec(tmp_path, port, "publish-second"),)), tmp_path, on_update) as run,
    ):
        assert working.wait(30)
        pid = json.loads((tmp_path / "processes.json").read_text())[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        done = run.wait()
    assert done["toy"].reused
    assert (tmp_path / "toy.marks").read_text().splitlines() == ["started", "started"]
    assert "toy died (SIGKILL)" in caplog.text


def test_processes_whose_original_was_killed_do_not_live_on_beside_their_successors(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan((_spec(tmp_path, port, "publish-second"),))
    with Supervisor(plan, tmp_path, _ignore) as run:
        _until((tmp_path / "toy.marks").exists)
        first = record.read(tmp_path)[0]
        status = Path(f"/proc/{first['pid']}/stat").read_text()
        original = int(status.rpartition(")")[2].split()[1])
        assert original != os.getpid()
        os.kill(original, signal.SIGKILL)
        assert run.wait()["toy"].reused
    assert "toy died (exit code 255)" in caplog.text
    assert not record.is_running(first)


def test_what_killed_processes_said_of_their_metrics_is_forgotten(
    tmp_path: Path, port: int
) -> None:
    metrics = record.metrics_folder(tmp_path)
    for name in ("toy", "prior-7"):
        metrics_targets.announce(metrics / f"{name}.json", "127.0.0.1:1")
    with Supervisor(Plan((_spec(tmp_path, port, "publish"),)), tmp_path, _ignore):
        assert set(metrics_targets.addresses(metrics)) == {"toy"}
    assert not metrics_targets.addresses(metrics)
    assert metrics.is_dir()


def test_a_stage_that_fails_ends_the_run_with_its_reason(tmp_path: Path, port: int) -> None:
    with (
        pytest.raises(RunError, match=r"toy failed: .*the data is not there") as caught,
        Supervisor(Plan((_spec(tmp_path, port, "fail"),)), tmp_path, _ignore) as run,
    ):
        run.wait()
    assert str(tmp_path / "toy.log") in str(caught.value)


def test_a_process_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    spec = ProcessSpec("unlucky", TOY, ("unlucky",), "127.0.0.1:9", reports=False)
    with (
        pytest.raises(RunError, match=r"unlucky died 5 times \(last exit code 7\): (no luck\s*)+"),
        Supervisor(Plan((spec,)), tmp_path, _ignore) as run,
    ):
        run.hold()


def test_what_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervisor.STOP_GRACE", 0.5)
    spec = ProcessSpec("stubborn", TOY, ("stubborn",), "127.0.0.1:9", reports=False)
    with Supervisor(Plan((spec,)), tmp_path, _ignore):
        while "up" not in (tmp_path / "stubborn.log").read_text():
            time.sleep(0.01)
        pid = json.loads((tmp_path / "processes.json").read_text())[0]["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _group(tmp_path: Path, count: int, bad: int | None = None) -> ReplicaGroup:
    places = []
    for index in range(4):
        # The address is how a process is recognised as the one that was started.
        address = str(tmp_path / f"address-{index}")
        outcome = "bad" if index == bad else "good"
        arguments = ("serve", address, str(tmp_path / f"call-{index}"), outcome)
        places.append(ProcessSpec(f"p-{index}", TOY, arguments, address, reports=False))
    return ReplicaGroup("main", tuple(places), count)


@contextmanager
def _held(plan: Plan, folder: Path, notices: list[str]) -> Iterator[None]:
    """A run that goes on in a thread of its own."""
    with Supervisor(plan, folder, _ignore, on_notice=notices.append) as run:

        def hold() -> None:
            with suppress(Interrupted):
                run.hold()

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield
        finally:
            run.interrupt(signal.SIGTERM)
            thread.join(30)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _states(folder: Path) -> dict[str, bool]:
    """Name of every process, and whether it drains."""
    return {process["name"]: process["draining"] for process in record.read(folder)}


def _up(folder: Path, name: str) -> bool:
    """It has set its signal handler."""
    return "up" in (folder / f"{name}.log").read_text()


def test_prior_servers_are_added_and_drained_while_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with _held(Plan((), (_group(tmp_path, 1),)), folder, []):
        assert _states(folder) == {"p-0": False}
        first = record.read(folder)[0]["pid"]
        (folder / "config.yaml").write_text("critic: {calls_in_flight: 2}")
        assert scale_prior(str(tmp_path), "main", 3) == (
            "prior servers of main: 1 -> 3; a critic keeps 2 of them busy (critic.calls_in_flight)"
        )
        assert _states(folder) == dict.fromkeys(["p-0", "p-1", "p-2"], False)
        _until(lambda: _up(folder, "p-1") and _up(folder, "p-2"))

        (tmp_path / "call-2").touch()
        WantedReplicas(folder).set("main", 1)
        _until(lambda: _states(folder) == {"p-0": False, "p-2": True})
        # The place is taken until its call is answered: another one is used.
        WantedReplicas(folder).set("main", 2)
        _until(lambda: _states(folder) == {"p-0": False, "p-2": True, "p-1": False})
        (tmp_path / "call-2").unlink()
        _until(lambda: _states(folder) == {"p-0": False, "p-1": False})
        assert record.read(folder)[0]["pid"] == first
    assert not WantedReplicas(folder).variants()
    with pytest.raises(RunError, match="no run is active"):
        scale_prior(str(tmp_path), "main", 2)


def test_a_prior_server_that_cannot_start_is_left_out_while_others_serve(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    notices: list[str] = []
    with _held(Plan((), (_group(tmp_path, 1, bad=1),)), folder, notices):
        WantedReplicas(folder).set("main", 2)
        _until(lambda: bool(notices))
        assert "p-1 failed" in notices[0]
        assert "goes on without it" in notices[0]
        assert _states(folder) == {"p-0": False}
        assert WantedReplicas(folder).get("main") == 1


def test_what_cannot_be_scaled_is_refused(tmp_path: Path) -> None:
    with (
        _held(Plan((), (_group(tmp_path, 1),)), tmp_path / "run", []),
        pytest.raises(RunError, match="no prior servers for it, expected one of: main"),
    ):
        scale_prior(str(tmp_path), "bcq_h", 2)
