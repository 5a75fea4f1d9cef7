"""The bearer token of an installation: every method but health asks for it."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from common.rpc import metrics

HEADER = "authorization"
_SCHEME = "Bearer "
_SHORTEST = 16
_OPEN_METHODS = "/grpc.health.v1.Health/"
_REFUSAL = (
    "expected the header `authorization: Bearer TOKEN` with this installation's token; "
    "ldcq's own clients read it from the file named by LDCQ_TOKEN_FILE"
)


class Tokens:
    """The tokens in a file, one in a line; read again when the file was replaced.

    Two lines are for a change of token: servers take both, clients send the first.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no token, or one that is short or cannot be sent; the message does not
            repeat it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = stamp(path)
        self._tokens = _parse(path.read_bytes())

    @property
    def header(self) -> str:
        """What a client sends."""
        return _SCHEME + self._current()[0].decode()

    def accept(self, values: Iterable[str | bytes]) -> bool:
        """Whether one of the headers given is right; how long this takes says nothing of how
        much of it is.
        """
        accepted = False
        for value in values:
            given = value.encode() if isinstance(value, str) else value
            scheme, _, sent = given.partition(b" ")
            for token in self._current():
                right = hmac.compare_digest(sent, token)
                # RFC 7235: the case of a scheme's name says nothing.
                accepted |= right and scheme.lower() == b"bearer"
        return accepted

    def _current(self) -> tuple[bytes, ...]:
        with self._lock:
            try:
                if (now := stamp(self._path)) != self._seen:
                    self._tokens, self._seen = _parse(self._path.read_bytes()), now
            except (OSError, ValueError):
                pass  # it is being replaced; what was right before still is
            return self._tokens


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _parse(content: bytes) -> tuple[bytes, ...]:
    tokens = tuple(line.strip() for line in content.splitlines() if line.strip())
    if not tokens:
        raise ValueError("it is empty, expected a token")
    for token in tokens:
        if len(token) < _SHORTEST or not all(0x21 <= byte <= 0x7E for byte in token):
            raise ValueError(
                f"expected tokens of at least {_SHORTEST} printable ASCII characters, "
                "one in a line, without spaces"
            )
    return tokens


class TokenServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Refuses calls without the token as UNAUTHENTICATED, before anything of them is read.

    Health is answered to everybody who can connect: probes and load balancers have no token.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's own handler, or one that refuses."""
        handler, details = await continuation(handler_call_details), handler_call_details
        method = str(details.method)
        if method.startswith(_OPEN_METHODS):
            return handler
        given = [value for name, value in details.invocation_metadata or () if name == HEADER]
        if self._tokens.accept(given):
            return handler
        known = handler is not None  # anybody may make up names, and each would be a time series

        async def refuse(_requests: Any, context: Any) -> None:
            if known:
                metrics.REQUESTS.labels(method, grpc.StatusCode.UNAUTHENTICATED.name).inc()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSAL)

        return grpc.stream_stream_rpc_method_handler(refuse)


class TokenClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc,unused-ignore]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc,unused-ignore]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc,unused-ignore]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc,unused-ignore]
):
    """Sends the token with every call of a channel.

    A header and not gRPC's call credentials: those refuse every channel without TLS, also the
    socket files of a local run.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), (HEADER, self._tokens.header)]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_stream: Any = intercept_unary_unary
    intercept_stream_unary: Any = intercept_unary_unary
    intercept_stream_stream: Any = intercept_unary_unary
