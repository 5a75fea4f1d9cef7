"""An exception in a servicer is a status code at the caller, and a number in the metrics."""

from __future__ import annotations

import logging
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from common.rpc import interceptors
from common.rpc.channel import connect
from common.rpc.errors import (
    DeadlineError,
    FailedPreconditionError,
    InvalidFieldError,
    NotReadyError,
    QueueFullError,
    RpcError,
)
from common.rpc.prior import sample_request
from ldcq.v1 import prior_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.draws import draw
from tests.numpy_prior import NumpyPrior, serve

METHOD = "/ldcq.v1.PriorService/Sample"


def _sample(address: str) -> Any:
    with grpc.insecure_channel(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        return stub.Sample(sample_request(draw(np.zeros((1, 3)), 1)), timeout=10)


def _count(code: str, method: str = METHOD) -> float:
    labels = {"method": method, "code": code}
    return REGISTRY.get_sample_value("ldcq_rpc_requests_total", labels) or 0.0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidFieldError("states", "NaN", "finite numbers"), "INVALID_ARGUMENT"),
        (FailedPreconditionError("another version"), "FAILED_PRECONDITION"),
        (NotReadyError("no model yet"), "UNAVAILABLE"),
        (QueueFullError("too many rows"), "RESOURCE_EXHAUSTED"),
        (DeadlineError("too late"), "DEADLINE_EXCEEDED"),
    ],
)
def test_an_error_crosses_the_wire_with_its_code_and_message(
    start: Start, error: RpcError, code: str
) -> None:
    address, before = start(NumpyPrior(raises=error)), _count(code)
    with pytest.raises(grpc.RpcError) as caught:
        _sample(address)
    assert caught.value.code().name == code
    assert caught.value.details() == error.message
    assert _count(code) == before + 1


def test_an_unexpected_error_is_logged_here_and_says_nothing_there(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    address = start(NumpyPrior(raises=KeyError("secret")))
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError) as caught:
        _sample(address)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())
    assert METHOD in caplog.text
    assert "KeyError: 'secret'" in caplog.text


@pytest.mark.parametrize(
    "method", [METHOD, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]
)
def test_bytes_that_are_no_message_are_counted_and_logged_once(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(interceptors, "_unreadable", interceptors._Unreadable())
    address, before = start(NumpyPrior()), _count("INTERNAL", method)
    with caplog.at_level(logging.INFO), connect(address) as channel:
        stream = method.endswith("Watch")
        call: Any = (channel.unary_stream if stream else channel.unary_unary)(method)
        for _ in range(20):
            with pytest.raises(grpc.RpcError) as caught:
                list(call(b"\xff\xff", timeout=10)) if stream else call(b"\xff\xff", timeout=10)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert _count("INTERNAL", method) == before + 20
    assert [record.getMessage() for record in caplog.records] == [
        f"{method}: a request was no message; more are only counted for a while"
    ]


def test_a_client_that_leaves_a_stream_is_no_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    before = _count("CANCELLED", method)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    more = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield asked
        more.wait(10)

    with caplog.at_level(logging.WARNING), connect(start(NumpyPrior())) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(questions())
        next(call)
        call.cancel()
        until = time.monotonic() + 10
        while _count("CANCELLED", method) == before and time.monotonic() < until:
            time.sleep(0.01)
    assert _count("CANCELLED", method) == before + 1
    more.set()
    assert not caplog.records


def test_a_message_longer_than_a_header_may_be_is_shortened(start: Start) -> None:
    address = start(NumpyPrior(raises=NotReadyError("x" * 100_000)))
    with pytest.raises(grpc.RpcError) as caught:
        _sample(address)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert set(str(caught.value.details())) == {"x"}


def test_an_unknown_method_stays_unimplemented(start: Start) -> None:
    with connect(start(NumpyPrior())) as channel:
        call: Any = channel.unary_unary("/ldcq.v1.PriorService/Dream")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_metrics_endpoint_shows_calls_by_method_and_code_and_their_seconds() -> None:
    server, address = serve(NumpyPrior(), metrics_port=0)
    try:
        _sample(address)
        url = f"http://{server.metrics_address}/metrics"
        page = urllib.request.urlopen(url, timeout=10).read().decode()
    finally:
        server.drain(0)
    assert f'ldcq_rpc_requests_total{{code="OK",method="{METHOD}"}}' in page
    assert f'ldcq_rpc_seconds_count{{method="{METHOD}"}}' in page
