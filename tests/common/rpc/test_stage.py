"""Whoever watches a stage sees where it stands, at once and until it is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from common.rpc import stage
from common.rpc.channel import connect
from common.rpc.server import Server
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import stage_pb2, stage_pb2_grpc
from tests.stopping import in_turn

Stub = stage_pb2_grpc.StageServiceStub
ASK = stage_pb2.StageServiceWatchRequest()


@pytest.fixture
def progress() -> Progress:
    return Progress("vae")


@pytest.fixture
def stub(progress: Progress) -> Iterator[Stub]:
    server = Server(linger=0.0)
    servicer = StageServicer(progress)
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, servicer, stage.FULL_NAME)
    with connect(server.start()) as channel:
        yield Stub(channel)
    server.drain(0)


def test_a_watcher_sees_the_state_at_once_and_every_later_one_to_the_end(
    progress: Progress, stub: Stub
) -> None:
    progress.waiting("waiting for the dataset")
    stream = stub.Watch(ASK, timeout=30)
    first = next(stream)
    assert (first.stage, first.state) == ("vae", stage_pb2.STAGE_STATE_WAITING)
    assert first.message == "waiting for the dataset"

    progress.running(3, 10, {"loss": 0.5})
    second = next(stream)
    assert (second.state, second.step, second.total) == (stage_pb2.STAGE_STATE_RUNNING, 3, 10)
    assert dict(second.metrics) == {"loss": 0.5}
    assert second.message == ""

    progress.running(4, 10, {"validation_loss": 0.7})
    assert dict(next(stream).metrics) == {"loss": 0.5, "validation_loss": 0.7}

    progress.published("abc", reused=True)
    *_, last = stream
    assert last.state == stage_pb2.STAGE_STATE_PUBLISHED
    assert (last.artifact_version, last.reused) == ("abc", True)


def test_whoever_comes_late_gets_the_end_and_only_that(progress: Progress, stub: Stub) -> None:
    progress.failed("the data hold NaN")
    (only,) = stub.Watch(ASK, timeout=30)
    assert only.state == stage_pb2.STAGE_STATE_FAILED
    assert only.message == "the data hold NaN"


def test_many_watchers_see_the_same(progress: Progress, stub: Stub) -> None:
    streams = [stub.Watch(ASK, timeout=30) for _ in range(5)]
    for stream in streams:
        next(stream)
    progress.published("abc")
    assert [list(stream)[-1].artifact_version for stream in streams] == ["abc"] * 5


def test_a_slow_watcher_gets_the_latest_state_and_not_a_queue(progress: Progress) -> None:
    updates = in_turn(progress.updates())
    next(updates)
    for step in range(1000):
        progress.running(step + 1, 1000)
    assert next(updates).step == 1000


def test_an_unchanged_state_is_repeated_so_that_a_lost_peer_is_noticed(progress: Progress) -> None:
    updates = in_turn(progress.updates(timeout=0.2))
    assert next(updates) == next(updates)


def test_updates_end_when_asked(progress: Progress) -> None:
    stop = threading.Event()
    updates = in_turn(progress.updates(timeout=60.0, stop=stop))
    next(updates)
    threading.Timer(0.2, stop.set).start()
    assert len(list(updates)) <= 1


def test_a_snapshot_is_a_copy(progress: Progress) -> None:
    before = progress.snapshot()
    progress.running(1, 2)
    assert before.step == 0
    assert progress.snapshot().step == 1


def test_the_rate_is_steps_per_second_of_the_recent_past(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr("common.rpc.stage.time.monotonic", lambda: next(clock))
    rates = []
    for step in (0, 10, 20, 70, 0):
        progress.running(step, 100)
        rates.append(progress.snapshot().rate)
    assert rates[:2] == [0.0, 10.0]
    assert rates[3] == 50.0  # what was 100 seconds ago has been forgotten
    assert rates[4] == 0.0  # a step back starts anew


def test_what_is_waited_for_is_also_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "common.rpc.stage"):
        Progress("critic").waiting("waiting for the prior at a:1")
    assert [record.getMessage() for record in caplog.records] == [
        "critic: waiting for the prior at a:1"
    ]
