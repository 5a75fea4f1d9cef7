"""The life of a gRPC server: bind, health, reflection, metrics endpoint, drain."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common.rpc import metrics_targets, stage
from common.rpc.health import HealthServicer
from common.rpc.interceptors import BoundaryInterceptor
from common.rpc.metrics_server import MetricsServer
from common.rpc.options import server_options
from common.rpc.security import Security
from common.rpc.tokens import TokenServerInterceptor

_LOG = logging.getLogger(__name__)
_PORT_IN_USE = (
    "the port is in use; stop the process that has it, or choose another port (0 takes a free one)"
)
_Servicer = TypeVar("_Servicer")
T = TypeVar("T")


class ServerError(RuntimeError):
    """A server that cannot start; the message names the address and what to do."""


class Server:
    """A gRPC server with everything a service of ldcq has around its own methods.

    Calls arrive on an event loop of their own; a servicer's methods are plain functions, called in
    threads, or asynchronous ones, called on that loop.

    Health (`grpc.health.v1`) is answered per service and for the whole server (""), which is
    SERVING when every service is. A service starts as NOT_SERVING, `StageService` as SERVING:
    progress can be watched before there is a model.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:0",
        *,
        max_workers: int = 32,
        max_calls: int = 512,
        metrics_port: int | None = None,
        metrics_host: str | None = None,
        metrics_targets: Path | None = None,
        linger: float = 0.5,
        grace: float = 10.0,
        security: Security | None = None,
    ) -> None:
        """Builds the server; nothing is bound before `start`.

        Args:
            address: `host:port` (port 0 takes a free one) or `unix:/path`.
            max_workers: Calls of one method handled at once; further ones wait.
            max_calls: Calls of one method handled or waiting; further ones are refused as
                RESOURCE_EXHAUSTED.
            metrics_port: Port of the Prometheus endpoint, 0 for a free one, None for none.
            metrics_host: Address of the interface it listens on; None: that of `address`.
            metrics_targets: File that says where that endpoint is while it is there, in Prometheus'
                file_sd format.
            linger: Seconds a drain goes on taking calls, so that clients notice NOT_SERVING.
            grace: Seconds a drain waits for calls under way.
            security: TLS and token; None: as the environment says.

        Raises:
            SecurityError: They cannot be used, or not for this address.
        """
        self._address = address
        self._security = Security.from_environment() if security is None else security
        self._security.check_server(address)
        tokens = self._security.tokens()
        self._linger, self._grace = linger, grace
        self._metrics_port, self._metrics_host = metrics_port, metrics_host
        self._metrics_targets = metrics_targets
        self._serving: dict[str, bool] = {}
        self._on_drain: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._metrics: MetricsServer | None = None
        self.metrics_address: str | None = None
        self._health = HealthServicer()
        self._boundary = BoundaryInterceptor(max_workers, max_calls)
        self._interceptors = [
            *([] if tokens is None else [TokenServerInterceptor(tokens)]),
            self._boundary,
        ]
        self._servicers: list[tuple[Callable[[Any, Any], None], Any]] = [
            (health_pb2_grpc.add_HealthServicer_to_server, self._health)
        ]
        self._server: Any = None

    def add(
        self, add_fn: Callable[[_Servicer, grpc.Server], None], servicer: _Servicer, full_name: str
    ) -> None:
        """Adds a service before `start`.

        Args:
            add_fn: The generated `add_XServicer_to_server`.
            servicer: Its implementation; if it has a method `on_drain()`, that is called when
                draining starts.
            full_name: For example "ldcq.v1.PriorService".
        """
        self._servicers.append((add_fn, servicer))
        on_drain = getattr(servicer, "on_drain", None)
        if on_drain is not None:
            self._on_drain.append(on_drain)
        self.set_serving(full_name, full_name == stage.FULL_NAME)

    def set_serving(self, full_name: str, serving: bool) -> None:
        """Sets the health of one service, and with it the whole server's."""
        with self._lock:
            self._serving[full_name] = serving
            statuses = {**self._serving, "": all(self._serving.values())}
            _on_the_loop(self._health.set(statuses))

    def start(self) -> str:
        """Binds and serves.

        Returns:
            The address bound: `host:port` with the real port, or `unix:/path`.

        Raises:
            ServerError: The address or the metrics port cannot be bound, or the file of the
                endpoint not be written.
        """
        bound = _on_the_loop(self._bind())
        self._start_metrics(bound)
        _on_the_loop(self._server.start())
        _LOG.info("listening on %s (%s)", bound, self._security)
        return bound

    def drain(self, grace: float | None = None) -> None:
        """Stops without losing a call: NOT_SERVING, go on for `linger` seconds, then let calls end.

        Args:
            grace: Seconds to wait for calls under way, after which they are cut off; None is the
                constructor's.
        """
        _on_the_loop(self._health.stop())
        for on_drain in self._on_drain:
            on_drain()
        time.sleep(self._linger)
        _on_the_loop(self._stop(self._grace if grace is None else grace))
        if self._metrics_targets is not None:
            self._metrics_targets.unlink(missing_ok=True)
        if self._metrics is not None:
            self._metrics.close()
        _LOG.info("drained")

    async def _stop(self, grace: float) -> None:
        self._boundary.end_idle()
        await self._server.stop(grace)

    async def _bind(self) -> str:
        self._server = grpc.aio.server(interceptors=self._interceptors, options=server_options())
        for add, servicer in self._servicers:
            add(servicer, self._server)
        # A plain client (with the token, where there is one) can explore the server.
        names = (*self._serving, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        # Asked before gRPC is, which prints its own account of it.
        local = self._address.startswith("unix:")
        if problem := (_taken if local else _tcp_problem)(self._address):
            raise ServerError(f"cannot listen on {self._address}: {problem}")
        try:
            credentials = self._security.server_credentials()
            if credentials is None:
                port = self._server.add_insecure_port(self._address)
            else:
                port = self._server.add_secure_port(self._address, credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            problem = _unix_problem(self._address) if local else _PORT_IN_USE
            raise ServerError(f"cannot listen on {self._address}: {problem}")
        return self._address if local else f"{self._address.rpartition(':')[0]}:{port}"

    def _start_metrics(self, bound: str) -> None:
        if self._metrics_port is None:
            return
        own = "127.0.0.1" if bound.startswith("unix:") else bound.rpartition(":")[0]
        host = self._metrics_host or own
        try:
            self._metrics = MetricsServer(host.strip("[]"), self._metrics_port)
        except OSError as error:
            raise ServerError(
                f"cannot serve metrics on {host}:{self._metrics_port}: {error.strerror}; "
                "choose another port, or 0 for a free one"
            ) from error
        self.metrics_address = f"{host}:{self._metrics.port}"
        _LOG.info("metrics on http://%s/metrics", self.metrics_address)
        if self._metrics_targets is not None:
            try:
                metrics_targets.announce(self._metrics_targets, self.metrics_address)
            except OSError as error:
                raise ServerError(
                    f"cannot write {self._metrics_targets}: {error.strerror}; choose a file in a "
                    "folder that can be written"
                ) from error


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one event loop of all servers of this process, for gRPC's polling serves only one well;
    in a thread that ends with the process.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rpc", daemon=True).start()
    return loop


def _on_the_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


def _socket_path(address: str) -> Path:
    return Path(address.removeprefix("unix:").removeprefix("//"))


def _taken(address: str) -> str:
    """That a process serves on the socket file, which gRPC would take over from it; empty where
    none does, also where a dead process has left it behind.
    """
    path = _socket_path(address)
    if not path.is_socket():
        return ""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return ""
    return "another process serves there; stop it or choose another path"


def _unix_problem(address: str) -> str:
    path = _socket_path(address)
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist; create it"
    if len(str(path).encode()) > 107:
        return "the path is longer than the 107 bytes a socket may have; choose a shorter one"
    return "expected unix:/path to a file that may be created"


def _tcp_problem(address: str) -> str:
    """Why an address cannot be bound, which gRPC itself does not say; empty where it can."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        return "expected HOST:PORT, for example 127.0.0.1:50051, or unix:/path"
    try:
        family, kind, _, _, name = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(name)
    except socket.gaierror:
        return f"the host {host!r} is not known; use an address of this machine or 0.0.0.0"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _PORT_IN_USE
        return f"{error.strerror}; use an address of this machine and a port above 1023"
    return ""
