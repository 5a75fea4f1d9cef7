"""Who is computed when, and with whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from common.rpc.errors import DeadlineError, NotReadyError, QueueFullError
from services.prior.queueing import CancelledCallError, ComputeQueue, Job, Priority


@dataclass
class Task:
    """Work that tells what was done with it."""

    name: str
    slices: Callable[[], Iterator[None]]
    order: list[str]
    key: Hashable | None = None

    def join(self, works: Sequence[Task]) -> None:
        self.order.append("+".join(work.name for work in works))
        if any("fails" in work.name for work in works):
            raise ValueError("as planned")


class Bench:
    """A queue whose first job holds the compute thread until it is released."""

    def __init__(self, capacity: int = 1000) -> None:
        self.queue = ComputeQueue(capacity, batch_rows=50)
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
        key: Hashable | None = None,
    ) -> Job:
        def compute() -> Iterator[None]:
            for index in range(slices):
                if hold:
                    self.started.set()
                    self.release.wait(10)
                self.order.append(f"{name}{index}" if slices > 1 else name)
                if index < slices - 1:
                    yield

        job = Job(rows, priority, deadline, Task(name, compute, self.order, key))
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
    learner = bench.submit("learner", slices=3, hold=True, rows=60)
    actor = bench.submit("actor", priority="actor")
    bench.started.clear()
    bench.release.set()
    actor.wait()
    learner.wait()
    late = bench.order.index("actor")
    assert bench.order.index("learner2") == len(bench.order) - 1 > late
    bench.queue.close()


def test_full_queue_counts_rows() -> None:
    bench = Bench(capacity=100)
    held = bench.submit("held", rows=90)
    with pytest.raises(QueueFullError, match="91 rows are waiting and the call has 10"):
        bench.submit("too many", rows=10)
    bench.release.set()
    held.wait()
    bench.submit("again", rows=10).wait()
    bench.queue.close()


def test_expired_jobs_are_never_computed(bench: Bench) -> None:
    expired = bench.submit("expired", deadline=time.monotonic() + 0.01)
    alive = bench.submit("alive", deadline=time.monotonic() + 60)
    time.sleep(0.02)
    bench.release.set()
    alive.wait()
    with pytest.raises(DeadlineError):
        expired.wait()
    assert "expired" not in bench.order


def test_cancelled_jobs_leave_at_once() -> None:
    bench = Bench(capacity=100)
    gone = bench.submit("gone", rows=90)
    bench.queue.cancel(gone)
    with pytest.raises(CancelledCallError):
        gone.wait()
    stays = bench.submit("stays", rows=90)
    bench.release.set()
    stays.wait()
    assert "gone" not in bench.order
    bench.queue.close()


def test_a_failing_job_fails_alone(bench: Bench) -> None:
    def fails() -> Iterator[None]:
        raise ValueError("as planned")
        yield

    failing = Job(1, "learner", None, Task("failing", fails, []))
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


def test_what_waits_under_one_key_is_computed_at_once(bench: Bench) -> None:
    jobs = [
        bench.submit("a", key=1),
        bench.submit("b", key=1, rows=20),
        bench.submit("other settings", key=2),
        bench.submit("does not fit", key=1, rows=30),
        bench.submit("c", key=1, rows=20),
        bench.submit("alone"),
        bench.submit("alone too"),
    ]
    bench.release.set()
    for job in jobs:
        job.wait()
    expected = ["blocker", "a+b+c", "other settings", "does not fit", "alone", "alone too"]
    assert bench.order == expected
    assert len({job.compute_seconds for job in (jobs[0], jobs[1], jobs[4])}) == 1


def test_learners_do_not_slow_an_actors_batch_down(bench: Bench) -> None:
    jobs = [
        bench.submit("learner", key=1),
        bench.submit("actor", key=1, priority="actor"),
        bench.submit("learner too", key=1),
        bench.submit("actor too", key=1, priority="actor"),
    ]
    bench.release.set()
    for job in jobs:
        job.wait()
    assert bench.order == ["blocker", "actor+actor too", "learner+learner too"]


def test_small_jobs_and_slices_of_large_ones_take_turns(bench: Bench) -> None:
    jobs = [
        bench.submit("large", slices=3, rows=60),
        bench.submit("larger", slices=2, rows=70),
        bench.submit("small"),
        bench.submit("too"),
    ]
    bench.release.set()
    for job in jobs:
        job.wait()
    expected = ["large0", "small", "large1", "too", "large2", "larger0", "larger1"]
    assert bench.order == ["blocker", *expected]


def test_who_has_gone_is_in_no_batch(bench: Bench) -> None:
    fine = [bench.submit(name, key=1) for name in ("fine", "too")]
    gone = bench.submit("gone", key=1)
    late = bench.submit("late", key=1, deadline=time.monotonic() + 0.01)
    bench.queue.cancel(gone)
    time.sleep(0.02)
    bench.release.set()
    for job in fine:
        job.wait()
    with pytest.raises(DeadlineError):
        late.wait()
    assert bench.order == ["blocker", "fine+too"]


def test_a_batch_fails_as_a_whole_and_the_next_is_computed(bench: Bench) -> None:
    """All of it was checked against one model: what fails is the computation, not one call."""
    failing = [bench.submit(name, key=1) for name in ("fine", "fails")]
    following = [bench.submit(name, key=2) for name in ("next", "too")]
    bench.release.set()
    for job in failing:
        with pytest.raises(ValueError, match="as planned"):
            job.wait()
    for job in following:
        job.wait()
    assert bench.order == ["blocker", "fine+fails", "next+too"]
