"""Calls that are opened and then left so: without a message, or without reading what comes."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from common.rpc.prior import sample_request
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from tests.draws import draw

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
        time.sleep(2)  # on a busy machine some are not on their way sooner
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
