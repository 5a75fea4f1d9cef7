"""Who is computed when: one thread, actors before learners, a bounded number of rows waiting."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch

from common.rpc.errors import DeadlineError, NotReadyError, QueueFullError
from services.prior import metrics

Priority = Literal["actor", "learner"]
_RANK: dict[Priority, int] = {"actor": 0, "learner": 1}


class CancelledCallError(Exception):
    """The caller has gone; nobody reads the reply."""


@dataclass(eq=False)
class Job:
    """One call on its way through the queue.

    Attributes:
        rows: N x n.
        priority: Who is asking.
        deadline: `time.monotonic()` after which nobody waits any more; None: never.
        compute: Called when the job's turn comes, in the compute thread; every `next` of what it
            returns is a slice of work, between which more urgent jobs may be computed.
        done: Set when the job has been computed, or has failed.
        error: Why it failed.
        queue_seconds: From submission to the first slice.
        compute_seconds: Sum over its slices.
    """

    rows: int
    priority: Priority
    deadline: float | None
    compute: Callable[[], Iterator[None]]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    _submitted: float = 0.0
    _slices: Iterator[None] | None = None

    def wait(self) -> None:
        """Blocks until the job is done, and raises what it failed with."""
        self.done.wait()
        if self.error is not None:
            raise self.error


class ComputeQueue:
    """Computes jobs one slice at a time in a thread of its own.

    Args:
        capacity: Most rows accepted and not yet answered.
        setup: Called once in the compute thread before any job.
    """

    def __init__(self, capacity: int, setup: Callable[[], None] = lambda: None) -> None:
        self._capacity = capacity
        self._setup = setup
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, Job]] = []
        self._order = 0
        self._rows = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="prior-compute", daemon=True)

    def start(self) -> None:
        """Starts the compute thread."""
        self._thread.start()

    def close(self) -> None:
        """Fails what is waiting with UNAVAILABLE, so that it is tried elsewhere, and ends the
        thread.
        """
        with self._changed:
            self._closed = True
            for _, _, job in list(self._waiting):
                self._finish(job, NotReadyError("the server is shutting down"))
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, job: Job) -> None:
        """Puts a job in its place: behind all of its priority.

        Raises:
            QueueFullError: There is no room for its rows.
            NotReadyError: The queue has been closed.
        """
        with self._changed:
            if self._closed:
                raise NotReadyError("the server is shutting down")
            if self._rows + job.rows > self._capacity:
                metrics.REJECTIONS.labels("queue_full").inc()
                raise QueueFullError(
                    f"{self._rows} rows are waiting and the call has {job.rows}, expected at most"
                    f" {self._capacity} together; try again later or another replica"
                )
            job._submitted = time.monotonic()
            heapq.heappush(self._waiting, (_RANK[job.priority], self._order, job))
            self._order += 1
            self._count(job.rows)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """The caller has gone: the job leaves at once, or after the slice being computed."""
        with self._changed:
            if job.done.is_set():
                return
            if _expired(job):
                metrics.REJECTIONS.labels("deadline").inc()
                self._finish(job, DeadlineError("the deadline passed before the call was computed"))
            else:
                metrics.REJECTIONS.labels("cancelled").inc()
                self._finish(job, CancelledCallError())

    def _run(self) -> None:
        self._setup()
        with torch.inference_mode():
            while (job := self._next()) is not None:
                self._advance(job)

    def _next(self) -> Job | None:
        """The most urgent job, which keeps its place until it is done; None: closed."""
        with self._changed:
            while True:
                while self._waiting and self._waiting[0][2].done.is_set():
                    heapq.heappop(self._waiting)
                if self._closed:
                    return None
                if self._waiting:
                    job = self._waiting[0][2]
                    if not _expired(job):
                        return job
                    self.cancel(job)
                else:
                    self._changed.wait()

    def _advance(self, job: Job) -> None:
        """Computes one slice."""
        start = time.monotonic()
        try:
            if job._slices is None:
                job.queue_seconds = start - job._submitted
                job._slices = job.compute()
            next(job._slices)
        except StopIteration:
            finished, error = True, None
        except Exception as problem:
            # Goes to the caller's own thread, whose interceptor knows what to make of it.
            finished, error = True, problem
        else:
            finished, error = False, None
        job.compute_seconds += time.monotonic() - start
        if finished:
            with self._changed:
                self._finish(job, error)

    def _finish(self, job: Job, error: Exception | None) -> None:
        """Under the lock. Only the first outcome counts."""
        if job.done.is_set():
            return
        job.error = error
        job.done.set()
        self._count(-job.rows)

    def _count(self, rows: int) -> None:
        self._rows += rows
        metrics.PENDING_ROWS.set(self._rows)


def _expired(job: Job) -> bool:
    return job.deadline is not None and time.monotonic() >= job.deadline
