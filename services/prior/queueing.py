"""Who is computed when: one thread, actors before learners, small calls joined, a bounded number of
rows waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import torch

from common.rpc.errors import DeadlineError, NotReadyError, QueueFullError
from ldcq.randomness import BLOCK_ROWS
from services.prior import metrics

Priority = Literal["actor", "learner"]
_RANK: dict[Priority, int] = {"actor": 0, "learner": 1}


class CancelledCallError(Exception):
    """The caller has gone; nobody reads the reply."""


class Work(Protocol):
    """What a call wants computed."""

    @property
    def key(self) -> Hashable | None:
        """Work of equal keys may be joined; None: computed alone."""
        ...

    def slices(self) -> Iterator[None]:
        """Computes it, called in the compute thread; other work may be done at every yield."""
        ...

    def join(self, works: Sequence[Self]) -> None:
        """Computes several of one key at once, this one being the first."""
        ...


@dataclass(eq=False)
class Job:
    """One call on its way through the queue.

    Attributes:
        rows: N x n.
        priority: Who is asking.
        deadline: `time.monotonic()` after which nobody waits any more; None: never.
        work: What to compute.
        done: Set when the job has been computed, or has failed.
        error: Why it failed.
        queue_seconds: From submission to the first slice.
        compute_seconds: Sum over its slices; of a joined job, that of all of them.
    """

    rows: int
    priority: Priority
    deadline: float | None
    work: Work
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
    """Computes jobs one slice at a time in a thread of its own, and small ones several at once.

    Nothing is waited for: what has queued up under one key while the last slice was computed is the
    next batch. Learners' rows never fill up an actors' batch, which would slow it down. Among jobs
    of one priority, small ones and slices of large ones take turns, so that neither keeps the other
    waiting.

    Args:
        capacity: Most rows accepted and not yet answered.
        setup: Called once in the compute thread before any job.
        batch_rows: Most rows of joined jobs; a job of more is a large one.
    """

    def __init__(
        self,
        capacity: int,
        setup: Callable[[], None] = lambda: None,
        batch_rows: int = BLOCK_ROWS,
    ) -> None:
        self._capacity = capacity
        metrics.CAPACITY_ROWS.set(capacity)
        self._setup = setup
        self._batch_rows = batch_rows
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._rows = 0
        self._small_had_its_turn = False
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
            for job in list(self._waiting):
                self._finish(job, NotReadyError("the server is shutting down"))
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, job: Job) -> None:
        """Takes a job in, behind all of its priority.

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
            self._waiting.append(job)
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
            while batch := self._next():
                if len(batch) > 1:
                    self._join(batch)
                else:
                    self._advance(batch[0])

    def _next(self) -> list[Job]:
        """The most urgent jobs, which keep their places until they are done; none: closed."""
        with self._changed:
            while not self._closed:
                for job in [job for job in self._waiting if _expired(job)]:
                    self.cancel(job)
                if self._waiting:
                    return self._choose()
                self._changed.wait()
            return []

    def _choose(self) -> list[Job]:
        """A batch of small jobs, or the first large one, of the most urgent priority."""
        rank = min(_RANK[job.priority] for job in self._waiting)
        jobs = [job for job in self._waiting if _RANK[job.priority] == rank]
        small = [job for job in jobs if job.rows <= self._batch_rows]
        large = [job for job in jobs if job.rows > self._batch_rows]
        self._small_had_its_turn = bool(small) and not (large and self._small_had_its_turn)
        if not self._small_had_its_turn:
            return large[:1]
        key, rows, batch = small[0].work.key, 0, []
        for job in small:
            if job.work.key == key and rows + job.rows <= self._batch_rows:
                batch.append(job)
                rows += job.rows
        return batch[:1] if key is None else batch

    def _advance(self, job: Job) -> None:
        """Computes one slice."""
        start = time.monotonic()
        metrics.BATCH_CALLS.observe(1)
        ended: Exception | None = None
        try:
            if job._slices is None:
                job.queue_seconds = start - job._submitted
                job._slices = job.work.slices()
            next(job._slices)
        except Exception as problem:
            # Goes to the caller's own thread, whose interceptor knows what to make of it.
            ended = problem
        job.compute_seconds += time.monotonic() - start
        if ended is not None:
            with self._changed:
                self._finish(job, None if isinstance(ended, StopIteration) else ended)

    def _join(self, batch: list[Job]) -> None:
        """Computes small jobs at once."""
        start = time.monotonic()
        metrics.BATCH_CALLS.observe(len(batch))
        error: Exception | None = None
        try:
            batch[0].work.join([job.work for job in batch])
        except Exception as problem:
            error = problem
        seconds = time.monotonic() - start
        with self._changed:
            for job in batch:
                job.queue_seconds, job.compute_seconds = start - job._submitted, seconds
                self._finish(job, error)

    def _finish(self, job: Job, error: Exception | None) -> None:
        """Under the lock. Only the first outcome counts."""
        if job.done.is_set():
            return
        job.error = error
        job.done.set()
        self._waiting.remove(job)
        self._count(-job.rows)

    def _count(self, rows: int) -> None:
        self._rows += rows
        metrics.PENDING_ROWS.set(self._rows)


def _expired(job: Job) -> bool:
    return job.deadline is not None and time.monotonic() >= job.deadline
