"""Starts the processes of a run, keeps them up, listens to their progress and stops them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cli.interrupts import Interrupted
from cli.logs import ProcessLog
from cli.plan import ProcessSpec
from common.rpc.channel import connect
from ldcq.v1 import stage_pb2, stage_pb2_grpc

logger = logging.getLogger(__name__)

Update = stage_pb2.StageServiceWatchResponse
GIVE_UP_AFTER = 5
"""Unexpected deaths of one process before the run is given up."""
FAILURE_CODES = (1, 2)
"""Exit codes by which a service says that starting it again would fail in the same way."""
STOP_GRACE = 15.0
RECORD = "processes.json"
"""File in the folder of a run: what runs where."""


class RunError(RuntimeError):
    """A run that cannot go on; the message says which process, why, and where its log is."""


@dataclass
class _Child:
    spec: ProcessSpec
    log: ProcessLog
    process: subprocess.Popen[bytes]
    deaths: int = 0
    last: Update | None = None
    done: bool = False


class Supervisor:
    """A set of local service processes.

    A process that dies unexpectedly (a crash, `kill -9`) is started again: every stage resumes
    from its checkpoint and every server holds only what the store holds. The other way round, the
    standard input of every process ends with this one, however that ends: by it they notice.

    Args:
        specs: The processes, in the order in which they are started.
        folder: Where `processes.json` and the processes' logs go.
        on_update: Called with a process name and the progress of its stage, from several threads.
        environment: Environment variables on top of this process's own.
        on_notice: Told what the user should know: warnings of the processes, and their deaths.
    """

    def __init__(
        self,
        specs: Iterable[ProcessSpec],
        folder: Path,
        on_update: Callable[[str, Update], None],
        environment: dict[str, str] | None = None,
        on_notice: Callable[[str], None] = logger.warning,
    ) -> None:
        self._specs = list(specs)
        self._folder = folder
        self._on_update, self._on_notice = on_update, on_notice
        self._environment = {**os.environ, **(environment or {})}
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()
        self._interrupted: int | None = None
        self._lifeline: tuple[int, ...] = ()

    def __enter__(self) -> Supervisor:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lifeline = os.pipe()
        try:
            for spec in self._specs:
                self._children[spec.name] = self._start(spec)
                if spec.reports:
                    watcher = threading.Thread(target=self._watch, args=(spec,), daemon=True)
                    watcher.start()
        except BaseException:
            self.stop()
            raise
        self._record()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self, goals: Iterable[str]) -> dict[str, Update]:
        """Keeps the processes up until every process in `goals` has published.

        Returns:
            The last progress of each goal.

        Raises:
            RunError: A stage failed, or a process keeps dying.
            Interrupted: A signal asked for the end.
        """
        goals = list(goals)
        while True:
            self._check_all()
            finished = {
                name: update
                for name in goals
                if (update := self._children[name].last) is not None
                and update.state == stage_pb2.STAGE_STATE_PUBLISHED
            }
            if len(finished) == len(goals):
                return finished
            time.sleep(0.1)

    def hold(self) -> None:
        """Keeps the processes up until interrupted. Raises like `wait`."""
        while not self._stopping.wait(0.2):
            self._check_all()

    def interrupt(self, number: int) -> None:
        """Ends `wait` or `hold`; for a signal handler. The second time it kills what is left."""
        if self._interrupted is not None:
            for child in self._children.values():
                child.process.kill()
        self._interrupted = number

    def stop(self) -> None:
        """Asks every process to end (SIGTERM), the last started first, and kills what does not
        within the grace.
        """
        self._stopping.set()
        children = list(reversed(self._children.values()))
        for child in children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_GRACE
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        (self._folder / RECORD).unlink(missing_ok=True)
        while self._lifeline:
            os.close(self._lifeline[0])
            self._lifeline = self._lifeline[1:]

    def _start(self, spec: ProcessSpec) -> _Child:
        log = ProcessLog(self._folder / f"{spec.name}.log")
        with log.path.open("ab") as stream:
            process = subprocess.Popen(
                spec.command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=self._lifeline[0],
                env=self._environment,
                start_new_session=True,  # an interrupt in the terminal reaches the launcher only
            )
        return _Child(spec, log, process)

    def _check_all(self) -> None:
        for child in self._children.values():
            if self._interrupted is not None:
                raise Interrupted(self._interrupted)
            self._check(child)

    def _check(self, child: _Child) -> None:
        code = child.process.poll()
        for warning in child.log.new_warnings():
            self._on_notice(f"{child.spec.name}: {warning}")
        if code is None or child.done:
            return
        if code == 0 and child.spec.ends:
            child.done = True
            if child.last is None or child.last.state != stage_pb2.STAGE_STATE_PUBLISHED:
                # It ended before its last word was heard; the exit code says the same.
                child.last = Update(state=stage_pb2.STAGE_STATE_PUBLISHED)
            return
        failed = child.last is not None and child.last.state == stage_pb2.STAGE_STATE_FAILED
        if failed or code in FAILURE_CODES:
            reason = child.last.message if child.last is not None and failed else child.log.reason()
            raise RunError(f"{child.spec.name} failed: {reason}\nIts log is {child.log.path}")
        child.deaths += 1
        if child.deaths >= GIVE_UP_AFTER:
            raise RunError(
                f"{child.spec.name} died {child.deaths} times (last exit code {code}): "
                f"{child.log.reason()}\nIts log is {child.log.path}"
            )
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._on_notice(f"{child.spec.name} died ({cause}); starting it again")
        again = self._start(child.spec)
        child.process, child.log = again.process, again.log
        self._record()

    def _watch(self, spec: ProcessSpec) -> None:
        """Follows one stage's progress, across restarts of its process, until it has ended."""
        while not self._stopping.is_set():
            with connect(spec.address, health_service=None) as channel:
                stub = stage_pb2_grpc.StageServiceStub(channel)
                try:
                    request = stage_pb2.StageServiceWatchRequest()
                    for update in stub.Watch(request, wait_for_ready=True):
                        self._children[spec.name].last = update
                        self._on_update(spec.name, update)
                        if update.state == stage_pb2.STAGE_STATE_PUBLISHED:
                            return
                except grpc.RpcError:
                    self._stopping.wait(0.2)

    def _record(self) -> None:
        """Writes what runs where, for `ldcq status`."""
        table = [
            {
                "name": name,
                "pid": child.process.pid,
                "address": child.spec.address,
                "reports": child.spec.reports,
            }
            for name, child in self._children.items()
        ]
        path = self._folder / RECORD
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(table, indent=2))
        partial.replace(path)


def end_leftovers(folder: Path) -> None:
    """Waits for the processes of a run whose launcher was killed, and kills what stays.

    They notice the launcher's end by themselves and save what they have; two writers of one stage
    would be in each other's way.
    """
    path = folder / RECORD
    if not path.is_file():
        return
    left = [item for item in json.loads(path.read_text()) if _is_running(item)]
    deadline = time.monotonic() + STOP_GRACE
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [item for item in left if _is_running(item)]
    for item in left:
        logger.warning("%s (process %d) did not end; killing it", item["name"], item["pid"])
        os.kill(item["pid"], signal.SIGKILL)
    path.unlink(missing_ok=True)


def _is_running(item: dict[str, Any]) -> bool:
    """Whether that very process runs: its number may be another's by now, the address is its."""
    try:
        command = Path(f"/proc/{item['pid']}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(item["address"]).encode() in command
