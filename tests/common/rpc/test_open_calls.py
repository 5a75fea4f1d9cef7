"""Whoever keeps calls open and says nothing stops nobody else."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from common.rpc import open_calls
from common.rpc.security import Security
from tests.common.rpc.conftest import Start
from tests.common.rpc.opened import (
    CHECK,
    REFLECTION,
    SAMPLE,
    WATCH,
    answers,
    codes,
    count,
    half_open,
    until,
    watching,
)
from tests.numpy_prior import NumpyPrior, serve


@pytest.mark.parametrize("method", [SAMPLE, CHECK, WATCH, REFLECTION])
def test_calls_without_a_message_take_no_thread(start: Start, method: str) -> None:
    address, before = start(NumpyPrior(), max_workers=2), threading.active_count()
    cancelled = count(method, "CANCELLED")
    with half_open(address, method, 80):
        assert answers(address)
        # The client has a thread for each of its calls here, the server none.
        assert threading.active_count() < before + 80 + 10
    until(lambda: count(method, "CANCELLED") >= cancelled + 80)
    assert answers(address)


def test_calls_without_the_token_end_before_their_message(tmp_path: Path, start: Start) -> None:
    (tmp_path / "token").write_text("sixteen-or-longer")
    address = start(NumpyPrior(), security=Security(token_file=tmp_path / "token"))
    with half_open(address, SAMPLE, 40) as calls:
        assert codes(calls) == ["UNAUTHENTICATED"] * 40


@pytest.mark.parametrize("method", [SAMPLE, CHECK, REFLECTION])
def test_a_message_has_to_come_in_time(
    start: Start, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(open_calls, "FIRST_MESSAGE_SECONDS", 0.2)
    address, before = start(NumpyPrior()), count(method, "DEADLINE_EXCEEDED")
    with half_open(address, method, 3) as calls:
        assert codes(calls) == ["DEADLINE_EXCEEDED"] * 3
        assert "did not come within 0.2 s" in calls[0].details()
    assert count(method, "DEADLINE_EXCEEDED") == before + 3


def test_a_call_that_ends_without_a_message_is_told_so(start: Start) -> None:
    with grpc.insecure_channel(start(NumpyPrior())) as channel:
        call: Any = channel.stream_unary(SAMPLE)
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(()), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "without a request" in str(caught.value.details())


def test_the_oldest_call_without_a_message_makes_room(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_calls, "MOST_UNSENT", 3)
    address = start(NumpyPrior())
    with half_open(address, SAMPLE, 3) as old, half_open(address, SAMPLE, 2) as young:
        until(lambda: sum(call.done() for call in old) == 2)
        assert codes([call for call in old if call.done()]) == ["RESOURCE_EXHAUSTED"] * 2
        assert not any(call.done() for call in young)
        assert answers(address)


def test_what_only_waits_does_not_keep_a_server_from_stopping() -> None:
    server, address = serve(NumpyPrior(), linger=0.3, grace=30.0)
    with (
        watching(address, 20) as watchers,
        half_open(address, SAMPLE, 20),
        half_open(address, REFLECTION, 3) as reflections,
    ):
        assert codes(watchers) == ["OK"] * 20
        start = time.monotonic()
        server.drain()
        assert time.monotonic() - start < 15  # of the 30 that it would give a call under way
        assert next(watchers[0]).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert codes(reflections) == ["UNAVAILABLE"] * 3
        assert "stopping" in reflections[0].details()
