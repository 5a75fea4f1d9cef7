"""Whoever keeps calls open, and says nothing or reads for ever, stops nobody else."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from common.rpc import interceptors, open_calls, stage
from common.rpc.clients import PriorClient
from common.rpc.prior import FULL_NAME, sample_request
from common.rpc.security import Security
from common.rpc.server import Server
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import prior_pb2, prior_pb2_grpc, stage_pb2, stage_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.draws import draw
from tests.numpy_prior import NumpyPrior, serve

SAMPLE = "/ldcq.v1.PriorService/Sample"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
DRAW = sample_request(draw(np.zeros((1, 3)), 1))
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@contextmanager
def half_open(address: str, method: str, count: int) -> Iterator[list[Any]]:
    """Calls that have sent their headers and nothing else."""
    done = threading.Event()

    def never() -> Iterator[bytes]:
        done.wait(60)
        yield from ()

    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        open_call: Any = channel.stream_stream(method)
        calls = [open_call(never()) for _ in range(count)]
        time.sleep(0.5)
        try:
            yield calls
        finally:
            for call in calls:
                call.cancel()
            done.set()


@contextmanager
def watching(address: str, count: int) -> Iterator[list[Any]]:
    """Streams of the server's health, each with its first message read where there is one."""
    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        calls = [watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(count)]
        yield calls
        for call in calls:
            call.cancel()


def codes(calls: list[Any]) -> list[str]:
    """How streams begin: OK with a message, or the code that they end with."""
    found = []
    for call in calls:
        try:
            next(call)
            found.append("OK")
        except grpc.RpcError as error:
            found.append(error.code().name)
    return found


def answers(address: str) -> dict[str, Any]:
    """Every kind of call by a newcomer, within seconds."""
    with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        return {
            "Describe": stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=20),
            "Sample": stub.Sample(DRAW, timeout=20),
            "Check": health.Check(health_pb2.HealthCheckRequest(), timeout=20),
            "Watch": next(health.Watch(health_pb2.HealthCheckRequest(), timeout=20)),
        }


def count(method: str, code: str) -> float:
    labels = {"method": method, "code": code}
    return REGISTRY.get_sample_value("ldcq_rpc_requests_total", labels) or 0.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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


@contextmanager
def connected_without_reading(address: str, calls: list[tuple[str, bytes]]) -> Iterator[None]:
    """Calls of methods with a message each, by a client that never takes an answer."""

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return struct.pack(">IBBI", len(content), kind, flags, stream)[1:] + content

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        no_window = frame(4, 0, 0, struct.pack(">HI", 4, 0))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window + frame(4, 1, 0, b""))
        for number, (method, message) in enumerate(calls):
            fields = {
                b":method": b"POST",
                b":scheme": b"http",
                b":path": method.encode(),
                b":authority": b"here",
                b"content-type": b"application/grpc",
                b"te": b"trailers",
            }
            headers = b"".join(literal(*field) for field in fields.items())
            body = b"\0" + struct.pack(">I", len(message)) + message
            stream = 2 * number + 1
            connection.sendall(frame(1, 4, stream, headers) + frame(0, 1, stream, body))
        yield


class Held(NumpyPrior):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def Sample(  # noqa: N802
        self, request: prior_pb2.PriorServiceSampleRequest, context: grpc.ServicerContext
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Latents, some time."""
        reply = super().Sample(request, context)
        assert self.may_answer.wait(60)
        return reply


def test_every_method_has_a_line_of_its_own_with_an_end(start: Start) -> None:
    """One call runs, one waits, and one is refused; other methods are answered meanwhile."""
    prior = Held()
    address, before = start(prior, max_workers=1, max_calls=2), count(SAMPLE, "RESOURCE_EXHAUSTED")
    with grpc.insecure_channel(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        calls = [stub.Sample.future(DRAW, timeout=60) for _ in range(3)]
        until(lambda: any(call.done() for call in calls))  # whichever of them came last
        (refused,) = (call for call in calls if call.done())
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"2 calls of {SAMPLE} run or wait" in refused.details()
        assert stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=20)
        assert count(SAMPLE, "RESOURCE_EXHAUSTED") == before + 1
        with PriorClient(address) as client:  # it tries again until there is room
            patient = client.sample_async(draw(np.zeros((1, 3)), 1))
            until(lambda: count(SAMPLE, "RESOURCE_EXHAUSTED") > before + 1)
            prior.may_answer.set()
            assert patient.result(timeout=60).latents.shape == (1, 1, 2)
        assert all(call.result() for call in calls if call is not refused)


def test_a_call_that_is_given_up_leaves_the_line(start: Start) -> None:
    prior = Held()
    with grpc.insecure_channel(start(prior, max_workers=1, max_calls=3)) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        first = stub.Sample.future(DRAW, timeout=60)
        until(lambda: prior.calls == 1)
        before = count(SAMPLE, "CANCELLED")
        second, third = stub.Sample.future(DRAW, timeout=60), stub.Sample.future(DRAW, timeout=1)
        until(lambda: count(SAMPLE, "CANCELLED") == before + 1)
        assert third.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        second.cancel()
        until(lambda: count(SAMPLE, "CANCELLED") == before + 2)
        more = [stub.Sample.future(DRAW, timeout=60) for _ in range(2)]  # there is room again
        prior.may_answer.set()
        assert all(call.result() for call in (first, *more))
        assert prior.calls == 3


class Attentive(NumpyPrior):
    """Looks after its caller, and remembers how the call ended."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.was_active, self.too_late = threading.Event(), False, False

    def Sample(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceSampleRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Goes on until the caller leaves."""
        assert context.add_callback(self.left.set)
        assert 0 < context.time_remaining() < 30
        assert dict(context.invocation_metadata())["who"] == "me"
        self.was_active = context.is_active()
        assert self.left.wait(20)
        self.too_late = not context.is_active() and not context.add_callback(lambda: None)
        context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")


def test_a_handler_learns_that_its_caller_has_left(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    prior = Attentive()
    with grpc.insecure_channel(start(prior)) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        call = stub.Sample.future(DRAW, timeout=20, metadata=(("who", "me"),))
        until(lambda: prior.was_active)
        call.cancel()
        until(lambda: prior.too_late)
    assert not caplog.records


def test_a_flood_is_answered_or_refused_and_all_of_it_counted(start: Start) -> None:
    """More calls than gRPC itself keeps waiting, over several connections."""
    address, total = start(NumpyPrior(delay=0.01), max_workers=4, max_calls=64), 2400
    before = Counter({code: count(SAMPLE, code) for code in ("OK", "RESOURCE_EXHAUSTED")})
    channels = [grpc.insecure_channel(address, OWN_CONNECTION) for _ in range(4)]
    calls = [
        prior_pb2_grpc.PriorServiceStub(channels[number % 4]).Sample.future(DRAW, timeout=60)
        for number in range(total)
    ]
    found = Counter(call.code().name for call in calls)
    for channel in channels:
        channel.close()
    assert found.total() == total
    assert set(found) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert all(count(SAMPLE, code) - before[code] == found[code] for code in found)


def test_a_client_that_keeps_to_the_bound_of_a_connection_is_never_refused(start: Start) -> None:
    with grpc.insecure_channel(start(NumpyPrior())) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        calls = [stub.Sample.future(DRAW, timeout=60) for _ in range(2000)]
        assert {call.code().name for call in calls} == {"OK"}


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
