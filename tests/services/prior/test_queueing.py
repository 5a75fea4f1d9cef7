"""Who is computed when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from common.rpc.errors import DeadlineError, NotReadyError, QueueFullError
from services.prior.queueing import CancelledCallError, ComputeQueue, Job, Priority


class Bench:
    """A queue whose first job holds the compute thread until it is released."""

    def __init__(self, capacity: int = 100) -> None:
        self.queue = ComputeQueue(capacity)
        self.order: list[str] = []
        self.release = threading.Event()
        self.started = threading.Event()
        self.blocker = self.submit("blocker", hold=True, rows=1)
        self.queue.start()
        assert self.started.wait(10)

    def submit(
        self,
        name: str,
        *,
        priority: Priority = "learner",
        slices: int = 1,
        rows: int = 10,
        deadline: float | None = None,
        hold: bool = False,
    ) -> Job:
        def compute() -> Iterator[None]:
            for index in range(slices):
                if hold:
                    self.started.set()
                    self.release.wait(10)
                self.order.append(f"{name}{index}" if slices > 1 else name)
                if index < slices - 1:
                    yield

        job = Job(rows, priority, deadline, compute)
        self.queue.submit(job)
        return job


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.release.set()
    bench.queue.close()


def test_actors_go_first_and_the_rest_in_order(bench: Bench) -> None:
    jobs = [
        bench.submit("first learner"),
        bench.submit("second learner"),
        bench.submit("first actor", priority="actor"),
        bench.submit("second actor", priority="actor"),
    ]
    bench.release.set()
    for job in jobs:
        job.wait()
    names = ["blocker", "first actor", "second actor", "first learner", "second learner"]
    assert bench.order == names
    assert all(job.queue_seconds > 0 and job.compute_seconds > 0 for job in jobs)


def test_an_actor_waits_for_one_slice_of_a_learner_only() -> None:
    bench = Bench()
    learner = bench.submit("learner", slices=3, hold=True)
    actor = bench.submit("actor", priority="actor")
    bench.started.clear()
    bench.release.set()
    actor.wait()
    learner.wait()
    late = bench.order.index("actor")
    assert bench.order.index("learner2") == len(bench.order) - 1 > late
    bench.queue.close()


def test_full_queue_counts_rows(bench: Bench) -> None:
    held = bench.submit("held", rows=90)
    with pytest.raises(QueueFullError, match="91 rows are waiting and the call has 10"):
        bench.submit("too many", rows=10)
    bench.release.set()
    held.wait()
    bench.submit("again", rows=10).wait()


def test_expired_jobs_are_never_computed(bench: Bench) -> None:
    expired = bench.submit("expired", deadline=time.monotonic() + 0.01)
    alive = bench.submit("alive", deadline=time.monotonic() + 60)
    time.sleep(0.02)
    bench.release.set()
    alive.wait()
    with pytest.raises(DeadlineError):
        expired.wait()
    assert "expired" not in bench.order


def test_cancelled_jobs_leave_at_once(bench: Bench) -> None:
    gone = bench.submit("gone", rows=90)
    bench.queue.cancel(gone)
    with pytest.raises(CancelledCallError):
        gone.wait()
    stays = bench.submit("stays", rows=90)
    bench.release.set()
    stays.wait()
    assert "gone" not in bench.order


def test_a_failing_job_fails_alone(bench: Bench) -> None:
    def fails() -> Iterator[None]:
        raise ValueError("as planned")
        yield

    failing = Job(1, "learner", None, fails)
    bench.queue.submit(failing)
    fine = bench.submit("fine")
    bench.release.set()
    with pytest.raises(ValueError, match="as planned"):
        failing.wait()
    fine.wait()


def test_closing_sends_waiting_callers_elsewhere(bench: Bench) -> None:
    waiting = bench.submit("waiting")
    closing = threading.Thread(target=bench.queue.close)
    closing.start()
    with pytest.raises(NotReadyError):
        waiting.wait()
    bench.release.set()
    closing.join(10)
    with pytest.raises(NotReadyError):
        bench.submit("late")
    assert "waiting" not in bench.order
