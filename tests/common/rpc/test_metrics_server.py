"""The metrics port answers Prometheus whatever else is connected to it."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from common.rpc import metrics_server
from common.rpc.metrics_server import MetricsServer
from common.rpc.server import Server, ServerError


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    started = MetricsServer("127.0.0.1", 0)
    yield started
    started.close()


def scrape(address: str) -> str:
    page: str = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
    return page


def test_idle_connections_take_no_thread_and_end_soon(server: MetricsServer) -> None:
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    idle[0].sendall(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
    assert "ldcq_rpc_seconds" in scrape(f"127.0.0.1:{server.port}")
    assert threading.active_count() <= before  # threads of other servers may end meanwhile
    for connection in idle:
        connection.settimeout(15)
        assert connection.recv(1) == b""
        connection.close()


def test_beyond_the_bound_a_scrape_waits_until_idle_connections_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {**metrics_server._LIMITS, "connection_limit": 20, "channel_timeout": 1}
    monkeypatch.setattr(metrics_server, "_LIMITS", limits)
    server = MetricsServer("127.0.0.1", 0)
    try:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        assert "ldcq_rpc_seconds" in scrape(f"127.0.0.1:{server.port}")
        for connection in idle:
            connection.close()
    finally:
        server.close()


def test_a_body_is_refused_before_it_is_read(server: MetricsServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/metrics")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_closed_endpoint_is_gone_with_its_connections_and_threads() -> None:
    before = threading.active_count()
    server = MetricsServer("::1", 0)
    held = socket.create_connection(("::1", server.port))
    assert "ldcq_rpc_seconds" in scrape(f"[::1]:{server.port}")
    start = time.monotonic()
    server.close()
    assert time.monotonic() - start < 3
    assert held.recv(1) == b""
    held.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", server.port))
    assert threading.active_count() <= before  # threads of other servers may end meanwhile


def test_metrics_have_an_interface_of_their_own() -> None:
    server = Server("127.0.0.1:0", linger=0.0, metrics_port=0, metrics_host="127.0.0.2")
    server.start()
    try:
        assert server.metrics_address is not None
        host, _, port = server.metrics_address.rpartition(":")
        assert host == "127.0.0.2"
        assert "ldcq_rpc_seconds" in scrape(server.metrics_address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)))
    finally:
        server.drain(0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_interface_that_is_not_there_is_refused_by_name(host: str) -> None:
    server = Server("127.0.0.1:0", linger=0.0, metrics_port=0, metrics_host=host)
    with pytest.raises(ServerError, match=f"cannot serve metrics on {host}:0: "):
        server.start()


def test_a_request_without_a_path_has_one_to_be_logged() -> None:
    """Waitress names it when the client has left, also where it could not parse the request."""
    request = HTTPRequestParser(Adjustments())
    request.received(b"nothing\r\n\r\n")
    assert request.error is not None
    assert request.path == ""
