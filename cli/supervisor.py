"""Starts the processes of a run, keeps them up, listens to their progress and stops them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import grpc

from cli import record
from cli.interrupts import Interrupted
from cli.plan import Plan, ProcessSpec, ReplicaGroup
from cli.process_log import ProcessLog
from cli.record import WantedReplicas
from cli.service_process import UNKNOWN_CODE, Lifeline
from common.rpc.channel import connect
from ldcq.v1 import stage_pb2, stage_pb2_grpc

logger = logging.getLogger(__name__)

Update = stage_pb2.StageServiceWatchResponse
_PUBLISHED = stage_pb2.STAGE_STATE_PUBLISHED
GIVE_UP_AFTER = 5
"""Unexpected deaths of one process before the run is given up."""
FAILURE_CODES = (1, 2)
"""Exit codes by which a service says that starting it again would fail in the same way."""
STUCK_SECONDS = 20.0
"""How long all stages that are not done may wait for artifacts before the run is given up."""
STOP_GRACE = 15.0
DRAIN_GRACE = 90.0
"""Seconds a prior server that is no longer wanted has for the calls it is computing."""


class RunError(RuntimeError):
    """A run that cannot go on; the message says which process, why, and where its log is."""


@dataclass
class _Child:
    spec: ProcessSpec
    log: ProcessLog
    process: BaseProcess
    deaths: int = 0
    last: Update | None = None
    done: bool = False
    replica_of: str | None = None
    drain_until: float | None = None

    @property
    def pid(self) -> int:
        assert self.process.pid is not None, "a process that was started"
        return self.process.pid


class Supervisor:
    """A set of local service processes.

    A process that dies unexpectedly (a crash, `kill -9`) is started again: every stage resumes
    from its checkpoint and every server holds only what the store holds. The other way round, the
    standard input of every process ends with this one, however that ends: by it they notice.

    The number of prior servers follows what `ldcq scale` asks for; one that is no longer wanted
    drains, so that no call fails.

    Args:
        plan: The processes; prior servers are started first.
        folder: Where `processes.json` and the processes' logs go.
        on_update: Called with a process name and the progress of its stage, from several threads.
        on_notice: Told what the user should know: warnings of the processes, and their deaths.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        on_update: Callable[[str, Update], None],
        on_notice: Callable[[str], None] = logger.warning,
    ) -> None:
        self._plan, self._folder = plan, folder
        self._wanted = WantedReplicas(folder)
        self._on_update, self._on_notice = on_update, on_notice
        self._children: dict[str, _Child] = {}
        self._stopping = threading.Event()
        self._interrupted: int | None = None

    def __enter__(self) -> Supervisor:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lifeline = Lifeline()
        try:
            self._wanted.clear()
            for group in self._plan.replicas:
                self._wanted.set(group.variant, group.count)
                self._scale(group)
            for spec in self._plan.processes:
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

    def wait(self) -> dict[str, Update]:
        """Keeps the processes up until every process that runs a stage has published.

        Returns:
            The last progress of each of them.

        Raises:
            RunError: A stage failed, or a process keeps dying.
            Interrupted: A signal asked for the end.
        """
        since = time.monotonic()
        while True:
            self._check_all()
            updates = {name: self._children[name].last for name in self._plan.goals()}
            finished = {
                name: update
                for name, update in updates.items()
                if update and update.state == _PUBLISHED
            }
            if len(finished) == len(updates):
                return finished
            waiting = {name: u.message for name, u in updates.items() if u and u.waiting_for}
            if len(finished) + len(waiting) < len(updates):
                since = time.monotonic()
            elif time.monotonic() > since + STUCK_SECONDS:
                said = "\n".join(f"{name} is {message}" for name, message in waiting.items())
                raise RunError(f"{said}\nNo process of this command makes that; start it again")
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
            child.process.terminate()
        deadline = time.monotonic() + STOP_GRACE
        for child in children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
        with suppress(OSError):  # a store that is gone, or became read-only, needs no cleaning
            record.forget(self._folder)
            self._wanted.clear()
        self._lifeline.close()

    def _start(self, spec: ProcessSpec) -> _Child:
        log = ProcessLog(self._folder / f"{spec.name}.log")
        process = self._lifeline.start(spec.name, spec.module, spec.arguments, log.path)
        return _Child(spec, log, process)

    def _check_all(self) -> None:
        for child in list(self._children.values()):
            if self._interrupted is not None:
                raise Interrupted(self._interrupted)
            self._check(child)
        for group in self._plan.replicas:
            self._scale(group)

    def _scale(self, group: ReplicaGroup) -> None:
        """Starts or drains prior servers until there are as many as are wanted."""
        wanted = self._wanted.get(group.variant)
        serving = self._serving(group)
        if wanted is None or wanted == len(serving):
            return
        surplus = serving[max(wanted, 1) :]
        for child in surplus:
            child.process.terminate()
            child.drain_until = time.monotonic() + DRAIN_GRACE
        # A place is free again when the server that drains there has ended.
        free = [spec for spec in group.places if spec.name not in self._children]
        missing = free[: max(0, wanted - len(serving))]
        for spec in missing:
            child = self._start(spec)
            child.replica_of = group.variant
            self._children[spec.name] = child
        if surplus or missing:
            self._record()

    def _serving(self, group: ReplicaGroup) -> list[_Child]:
        children = self._children.values()
        return [c for c in children if c.replica_of == group.variant and c.drain_until is None]

    def _remove(self, child: _Child) -> None:
        del self._children[child.spec.name]
        self._record()

    def _check(self, child: _Child) -> None:
        code = child.process.exitcode
        for warning in child.log.new_warnings():
            self._on_notice(f"{child.spec.name}: {warning}")
        if child.drain_until is not None:
            if code is not None:
                self._remove(child)
            elif time.monotonic() > child.drain_until:
                child.process.kill()
            return
        if code is None or child.done:
            return
        if code == 0 and child.spec.ends:
            child.done = True
            if child.last is None or child.last.state != _PUBLISHED:
                # It ended before its last word was heard; the exit code says the same.
                child.last = Update(state=_PUBLISHED)
            return
        last = child.last
        if last is not None and last.state == stage_pb2.STAGE_STATE_FAILED:
            self._give_up(child, f"failed: {last.message}")
            return
        if code in FAILURE_CODES:
            self._give_up(child, f"failed: {child.log.reason()}")
            return
        child.deaths += 1
        if child.deaths >= GIVE_UP_AFTER:
            times = f"{child.deaths} times (last exit code {code})"
            self._give_up(child, f"died {times}: {child.log.reason()}")
            return
        if code == UNKNOWN_CODE:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._on_notice(f"{child.spec.name} died ({cause}); starting it again")
        again = self._start(child.spec)
        child.process, child.log, child.last = again.process, again.log, None
        self._record()

    def _give_up(self, child: _Child, why: str) -> None:
        """Ends the run, unless it can go on with one prior server less.

        Raises:
            RunError: It cannot.
        """
        message = f"{child.spec.name} {why}\nIts log is {child.log.path}"
        for group in self._plan.replicas:
            others = [other for other in self._serving(group) if other is not child]
            if others and group.variant == child.replica_of:
                self._wanted.set(group.variant, len(others))
                self._remove(child)
                self._on_notice(f"{message}\nThe run goes on without it")
                return
        raise RunError(message)

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
                        if update.state == _PUBLISHED:
                            return
                except grpc.RpcError:
                    self._stopping.wait(0.2)

    def _record(self) -> None:
        """Writes what runs where."""
        record.write(
            self._folder,
            [
                {
                    "name": name,
                    "pid": child.pid,
                    "address": child.spec.address,
                    "reports": child.spec.reports,
                    "replica_of": child.replica_of,
                    "draining": child.drain_until is not None,
                }
                for name, child in self._children.items()
            ],
        )
