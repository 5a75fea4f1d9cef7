"""Whole commands around the processes: the lock, what is left of a killed run, the exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import record, supervisor
from cli.interrupts import Interrupted, handled
from cli.main import main
from cli.plan import Plan, ProcessSpec
from cli.process_log import ProcessLog
from cli.record import end_leftovers
from cli.supervisor import Supervisor

TINY = Path(__file__).parents[1] / "tiny.yaml"
TOY = "tests.cli.toy"
SLEEP = "import time; time.sleep(600)"


def test_a_store_in_use_is_refused_and_its_user_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run" / "lock"
    holder = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "f.write(str(os.getpid())); f.flush(); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", holder, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(sys, "argv", ["ldcq", "run", str(TINY), "--store", str(tmp_path)])
        with pytest.raises(SystemExit) as ended:
            main()
        other.kill()
    assert ended.value.code == 2
    assert f"is in use by process {other.pid}: wait for it" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_every_process_and_decides_the_exit_code(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = Supervisor(_plan("sleep"), tmp_path, lambda *_: None)
    with handled(run.interrupt), run:
        pid = json.loads((tmp_path / "processes.json").read_text())[0]["pid"]
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as stopped:
            run.hold()
    assert stopped.value.exit_code == code
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "processes.json").exists()


def test_the_second_signal_does_not_wait_for_what_will_not_end(tmp_path: Path) -> None:
    with Supervisor(_plan("stubborn"), tmp_path, lambda *_: None) as run:
        start = time.monotonic()
        run.interrupt(signal.SIGINT)
        run.interrupt(signal.SIGINT)
    assert time.monotonic() - start < supervisor.STOP_GRACE


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(seen.append):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == []


def test_services_end_with_the_launcher_that_held_their_input(tmp_path: Path) -> None:
    options = ["--config", str(TINY), "--store", str(tmp_path), "--end-with-input"]
    command = [sys.executable, "-m", "services.prior", "serve", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        assert service.stdout.readline().startswith(b"listening on")
        service.stdin.close()
        assert service.wait(60) == 0


def test_what_a_killed_launcher_left_is_ended_before_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.record._GRACE", 0.3)
    with (
        subprocess.Popen([sys.executable, "-c", SLEEP]) as ours,
        subprocess.Popen([sys.executable, "-c", SLEEP]) as foreign,
    ):
        record.write(tmp_path, [{"name": "a", "pid": ours.pid}, {"name": "b", "pid": foreign.pid}])
        table = record.read(tmp_path)
        # Another program has the number that was a service's.
        table[1]["started"] -= 1
        (tmp_path / "processes.json").write_text(json.dumps(table))
        end_leftovers(tmp_path)
        assert ours.wait(10) == -signal.SIGKILL
        assert foreign.poll() is None
        foreign.kill()
    assert not (tmp_path / "processes.json").exists()


def test_warnings_of_a_process_reach_the_user_and_its_failure_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "vae.log"
    path.write_text("2026-01-01 00:00:00,000 ERROR   services.vae.train: of the run before\n")
    log = ProcessLog(path)
    stamp = "2026-01-02 00:00:00,000"
    with path.open("a") as file:
        file.write(f"{stamp} WARNING ldcq.data.windows: 2 of 9 episodes dropped\n")
        file.write(f"{stamp} WARNING py.warnings: something is deprecated\n")
        file.write(f"{stamp} WARNING common.training.checkpoints: half a li")
    assert log.new_warnings() == ["2 of 9 episodes dropped"]
    with path.open("a") as file:
        file.write(f"ne\n{stamp} ERROR   common.training.process: vae failed\n")
        file.write("Traceback (most recent call last):\n  File x\nValueError: 3 is no 4\n")
        file.write(f"{stamp} INFO    common.rpc.server: drained\n")
    assert log.new_warnings() == ["half a line"]
    assert log.reason() == "vae failed: ValueError: 3 is no 4"
    with path.open("a") as file:
        file.write("error: vae: the data is not there\n")
    assert log.reason() == "vae: the data is not there"
    assert ProcessLog(path).reason() == "it printed nothing"


def _plan(behaviour: str) -> Plan:
    return Plan((ProcessSpec("toy", TOY, (behaviour,), "127.0.0.1:9", reports=False),))
