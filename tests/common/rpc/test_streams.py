"""Whoever keeps streams open, and reads for ever or never, stops nobody else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc import interceptors, open_calls, stage
from common.rpc.clients import PriorClient
from common.rpc.prior import FULL_NAME
from common.rpc.server import Server
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import stage_pb2, stage_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.common.rpc.opened import (
    OWN_CONNECTION,
    WATCH,
    answers,
    codes,
    connected_without_reading,
    count,
    until,
    watching,
)
from tests.draws import draw
from tests.numpy_prior import NumpyPrior, serve


@pytest.mark.parametrize(
    ("bound", "whose"), [("STREAMS_PER_HOST", "host"), ("MOST_STREAMS", "server")]
)
def test_streams_are_bounded_by_connection_by_host_and_in_all(
    start: Start, monkeypatch: pytest.MonkeyPatch, bound: str, whose: str
) -> None:
    monkeypatch.setattr(open_calls, "STREAMS_PER_PEER", 3)
    monkeypatch.setattr(open_calls, bound, 5)
    address = start(NumpyPrior())
    with watching(address, 4) as first:
        assert sorted(codes(first)) == ["OK"] * 3 + ["RESOURCE_EXHAUSTED"]
        with watching(address, 3) as second:
            assert sorted(codes(second)) == ["OK"] * 2 + ["RESOURCE_EXHAUSTED"]
            with pytest.raises(grpc.RpcError, match=f"this {whose} has 5 streams open"):
                answers(address)
    until(lambda: bool(_or_none(address)))  # the places are free again


def _or_none(address: str) -> dict[str, Any] | None:
    try:
        return answers(address)
    except grpc.RpcError:
        return None


def test_a_socket_file_has_many_peers(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their addresses are all the same, so only the bound of the server counts."""
    monkeypatch.setattr(open_calls, "STREAMS_PER_PEER", 2)
    with watching(start(NumpyPrior(), address=f"unix:{tmp_path}/s"), 5) as calls:
        assert codes(calls) == ["OK"] * 5


def test_watchers_take_no_threads() -> None:
    server = Server(linger=0.0)
    progress = StageServicer(Progress("vae"))
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, progress, stage.FULL_NAME)
    address = server.start()
    with grpc.insecure_channel(address) as channel:
        stub = stage_pb2_grpc.StageServiceStub(channel)
        calls = [stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=60) for _ in range(90)]
        assert codes(calls) == ["OK"] * 90
        names = Counter(thread.name.partition("_")[0] for thread in threading.enumerate())
        assert names["Watch"] == 0
        with grpc.insecure_channel(address, OWN_CONNECTION) as other:
            request = health_pb2.HealthCheckRequest()
            assert health_pb2_grpc.HealthStub(other).Check(request, timeout=20)
    server.drain(0)


def test_more_watchers_than_a_server_ever_had_threads_for(start: Start) -> None:
    address = start(NumpyPrior())
    with watching(address, 600), watching(address, 600):
        with PriorClient(address, timeout=20, patience=0.0) as client:
            assert client.sample(draw(np.zeros((1, 3)), 2)).latents.shape == (1, 2, 2)
        assert answers(address)


def test_a_watcher_that_does_not_read_keeps_nobody_from_knowing() -> None:
    """It allows the server to send it 0 bytes (RFC 9113, 6.9.2)."""
    server, address = serve(NumpyPrior())
    with connected_without_reading(address, [(WATCH, b"")] * 3):
        until(lambda: count_open(server) == 3)
        with watching(address, 1) as (watch,):
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            server.set_serving(FULL_NAME, False)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.set_serving(FULL_NAME, True)
        assert answers(address)
    server.drain(0)


class Chatty(stage_pb2_grpc.StageServiceServicer):
    """A stream from a thread, as an actor's `Evaluate` is."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def Watch(  # noqa: N802
        self,
        request: stage_pb2.StageServiceWatchRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[stage_pb2.StageServiceWatchResponse]:
        """Goes on while somebody reads."""
        try:
            while True:
                yield stage_pb2.StageServiceWatchResponse(stage="vae")
        finally:
            self.ended.set()


def test_a_stream_that_nobody_reads_gives_its_thread_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "_LONGEST_WRITE_SECONDS", 0.2)
    server, chatty = Server(linger=0.0), Chatty()
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, chatty, stage.FULL_NAME)
    method = f"/{stage.FULL_NAME}/Watch"
    before = count(method, "DEADLINE_EXCEEDED")
    with connected_without_reading(server.start(), [(method, b"")]):
        assert chatty.ended.wait(10)
        until(lambda: count(method, "DEADLINE_EXCEEDED") == before + 1)
    server.drain(0)


def count_open(server: Server) -> int:
    """Streams that a server has open."""
    return server._boundary._open._streams[""]
