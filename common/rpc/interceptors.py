"""Around every handler of a server: errors become status codes, calls are counted and timed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from common.rpc import deadlines, metrics, tracing
from common.rpc.errors import RpcError

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS = 60.0
_LONGEST_DETAILS = 2000  # details travel in a header, whose size is limited

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


class BoundaryInterceptor(grpc.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Sends an `RpcError` with its code; anything unexpected is logged here and INTERNAL there.

    What went wrong inside stays inside: a caller learns where to look, not what the code looks
    like.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of the method called; unknown methods stay UNIMPLEMENTED."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        streams = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if streaming else "unary" for streaming in streams)
        behaviour: Behaviour = getattr(handler, kind)
        method = str(handler_call_details.method)
        # Health's Watch stays as it is: gRPC looks at the attributes of the function itself.
        if not hasattr(behaviour, "experimental_thread_pool"):
            wrap = _streaming if handler.response_streaming else _unary
            behaviour = wrap(behaviour, method)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            behaviour,
            request_deserializer=_reading(handler.request_deserializer, method),
            response_serializer=handler.response_serializer,
        )


class _Unreadable:
    """When bytes that are no message came last, by method; each is counted, few are logged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def note(self, method: str) -> None:
        """One more."""
        metrics.REQUESTS.labels(method, grpc.StatusCode.INTERNAL.name).inc()
        now = time.monotonic()
        with self._lock:
            due = now >= self._next.get(method, 0.0)
            if due:
                self._next[method] = now + _QUIET_SECONDS
        if due:
            _LOG.warning("%s: a request was no message; more are only counted for a while", method)


_unreadable = _Unreadable()


def _reading(deserialise: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
    """`deserialise`, whose failure is a line in the log now and then instead of a traceback each:
    gRPC itself ends a call whose request is None as INTERNAL.
    """

    def read(content: bytes) -> Any:
        try:
            return deserialise(content)
        except DecodeError:
            _unreadable.note(method)
            return None

    return read


def _unary(behaviour: Behaviour, method: str) -> Behaviour:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        metadata = context.invocation_metadata() or ()
        with (
            tracing.handling(method, metadata),
            deadlines.handling(context.time_remaining()),
            _Call(method, context),
        ):
            return behaviour(request, context)

    return handle


def _streaming(behaviour: Behaviour, method: str) -> Behaviour:
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with _Call(method, context):
            yield from behaviour(request, context)

    return handle


class _Call:
    """One call: timed, counted, its exception turned into a status."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self._method = method
        self._context: Any = context
        self._start = time.perf_counter()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        code, details = self._status(error)
        metrics.REQUESTS.labels(self._method, code.name).inc()
        metrics.SECONDS.labels(self._method).observe(time.perf_counter() - self._start)
        if details is not None:
            self._abort(code, details, error)

    def _status(self, error: BaseException | None) -> tuple[grpc.StatusCode, str | None]:
        """The call's code, and the details to abort it with where no status is set yet."""
        already = self._context.code()
        if error is None:
            return already or grpc.StatusCode.OK, None
        gone = isinstance(error, grpc.RpcError) and not self._context.is_active()
        if gone or isinstance(error, GeneratorExit):
            return grpc.StatusCode.CANCELLED, None
        if type(error) is Exception and not error.args and already is not None:
            return already, None  # this is how context.abort ends a handler
        if isinstance(error, RpcError):
            return error.code, error.message
        _LOG.error("%s failed", self._method, exc_info=error)
        return grpc.StatusCode.INTERNAL, f"internal error in {self._method}; see the server's log"

    def _abort(self, code: grpc.StatusCode, details: str, cause: BaseException | None) -> NoReturn:
        try:
            self._context.abort(code, details[:_LONGEST_DETAILS])
        except Exception as aborted:
            raise aborted from cause
        raise AssertionError("context.abort returned")
