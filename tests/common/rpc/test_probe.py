"""The health probe of containers, against real servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import pytest

from common.rpc.prior import FULL_NAME
from common.rpc.probe import main
from common.rpc.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("127.0.0.1:0", linger=0.0, grace=0.0)
    server.set_serving(FULL_NAME, False)  # as any service before it has a model
    yield server
    server.drain()


def test_a_server_without_a_model_lives_and_is_not_healthy(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.start()
    assert main([address]) == 1
    assert "NOT_SERVING" in capsys.readouterr().out
    assert main([address, "--live"]) == 0


def test_a_serving_server_is_healthy_as_a_whole_and_by_service(server: Server) -> None:
    address = server.start()
    server.set_serving(FULL_NAME, True)
    assert main([address]) == 0
    assert main([address, "--service", FULL_NAME]) == 0


def test_an_unknown_service_is_not_healthy(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([server.start(), "--service", "ldcq.v1.NoSuchService"]) == 1
    assert grpc.StatusCode.NOT_FOUND.name in capsys.readouterr().out


def test_nobody_there_is_not_even_alive(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        port = taken.getsockname()[1]
        assert main([f"127.0.0.1:{port}", "--live", "--timeout", "1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().out
