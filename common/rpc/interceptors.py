"""Around every handler of a server: errors become status codes, calls are bounded and counted.

Messages arrive and leave on the event loop. A synchronous handler runs in a thread, which it gets
when its message is there; an asynchronous one (health, reflection, progress) stays on the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, nullcontext
from functools import partial
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from common.rpc import deadlines, metrics, tracing
from common.rpc.errors import CallError, QueueFullError, RpcError
from common.rpc.open_calls import OpenCalls

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS = 60.0
_LONGEST_WRITE_SECONDS = 60.0
_LONGEST_DETAILS = 2000  # details travel in a header, whose size is limited


class BoundaryInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Sends an `RpcError` with its code; anything unexpected is logged here and INTERNAL there.

    What went wrong inside stays inside: a caller learns where to look, not what the code looks
    like.

    Args:
        max_workers: Calls of one method handled at once; every method has threads of its own, so
            that none waits behind another.
        max_calls: Calls of one method that are handled or wait for a thread; further ones are
            refused as RESOURCE_EXHAUSTED.
    """

    def __init__(self, max_workers: int, max_calls: int) -> None:
        self._max_workers, self._max_calls = max_workers, max_calls
        self._open = OpenCalls()
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the method called, wrapped; unknown methods stay UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = str(handler_call_details.method)
        if name not in self._handlers:
            workers = _Workers(name, self._max_workers, self._max_calls)
            self._handlers[name] = _Method(name, handler, self._open, workers).handler()
        return self._handlers[name]

    def end_idle(self) -> None:
        """Ends the calls that only wait for their client, for the server stops."""
        self._open.stop()


class _Method:
    """One method: the way of its calls from the wire to its handler and back."""

    def __init__(self, name: str, handler: Any, calls: OpenCalls, workers: _Workers) -> None:
        self._name, self._handler, self._open, self._workers = name, handler, calls, workers
        streams = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if streaming else "unary" for streaming in streams)
        self._behaviour: Callable[[Any, Any], Any] = getattr(handler, kind)
        self._is_stream = any(streams)
        self._seconds = metrics.SECONDS.labels(name)
        self._is_generator = inspect.isasyncgenfunction(self._behaviour)
        self._is_async = self._is_generator or inspect.iscoroutinefunction(self._behaviour)

    def handler(self) -> Any:
        """What gRPC calls; a request is one message of a stream here, which is the same on the wire
        and can be waited for with a limit.
        """
        if self._handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._call, response_serializer=self._handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(self._call)

    async def _call(self, _requests: Any, context: Any) -> Any:
        """One call: counted and timed, its exception turned into a status."""
        start = time.perf_counter()
        try:
            with self._open.stream(context.peer()) if self._is_stream else nullcontext():
                answer = await self._answer(context)
        except asyncio.CancelledError:
            self._count("CANCELLED", start)  # also at the caller's deadline
            raise
        except grpc.aio.AbortError:
            self._count(context.code().name, start)
            raise
        except Exception as error:
            told = self._told(error)
            self._count(told.code.name, start)
            await context.abort(told.code, told.message[:_LONGEST_DETAILS])
        else:
            self._count("OK", start)
            return answer

    def _count(self, code: str, start: float) -> None:
        metrics.REQUESTS.labels(self._name, code).inc()
        self._seconds.observe(time.perf_counter() - start)

    async def _answer(self, context: Any) -> Any:
        if self._is_async:
            with self._open.endable() if self._is_stream else nullcontext():
                return await self._on_the_loop(context)
        content, caller = await self._first(context), _Caller(context)
        try:
            return await self._workers.run(partial(self._in_a_thread, content, caller))
        finally:
            caller.left()

    async def _on_the_loop(self, context: Any) -> Any:
        if self._handler.request_streaming:
            request: Any = self._messages(context)
        else:
            request = self._read(await self._first(context))
        if self._is_generator:
            async with aclosing(self._behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)
            return None
        answer = await self._behaviour(request, context)
        return None if self._is_stream else self._handler.response_serializer(answer)

    def _in_a_thread(self, content: bytes, caller: _Caller) -> bytes | None:
        try:
            with (
                tracing.handling(self._name, caller.invocation_metadata()),
                deadlines.handling(caller.time_remaining()),
            ):
                answer = self._behaviour(self._read(content), caller)
                if not self._is_stream:
                    return bytes(self._handler.response_serializer(answer))
                with closing(answer):
                    for response in answer:
                        caller.write(response)
                return None
        except Exception as error:
            raise self._told(error) from error

    async def _first(self, context: Any) -> bytes:
        with self._open.unsent():
            content = await _received(context)
        if content is grpc.aio.EOF:
            raise CallError("the call ended without a request", grpc.StatusCode.INVALID_ARGUMENT)
        return bytes(content)

    async def _messages(self, context: Any) -> AsyncIterator[Any]:
        content: Any = await self._first(context)
        while content is not grpc.aio.EOF:
            yield self._read(content)
            content = await _received(context)

    def _read(self, content: bytes) -> Any:
        try:
            return self._handler.request_deserializer(content)
        except DecodeError as error:
            _unreadable.note(self._name)
            message = f"the request is no message of {self._name}"
            raise CallError(message, grpc.StatusCode.INTERNAL) from error

    def _told(self, error: Exception) -> RpcError:
        """What the caller is told of an error."""
        if isinstance(error, RpcError):
            return error
        _LOG.error("%s failed", self._name, exc_info=error)
        message = f"internal error in {self._name}; see the server's log"
        return CallError(message, grpc.StatusCode.INTERNAL)


async def _received(context: Any) -> Any:
    """The next message, or EOF at the end of the client's stream."""
    content = await context.read()
    if content is grpc.aio.EOF:
        # Also what is read where the client has left, which then is told in the next moment.
        await asyncio.sleep(0)
    return content


class _Workers:
    """The threads of one method, and the line before them."""

    def __init__(self, name: str, most: int, max_calls: int) -> None:
        self._name, self._calls, self._max_calls = name, 0, max_calls
        self._threads = ThreadPoolExecutor(most, thread_name_prefix=name.rpartition("/")[2])
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Calls `work` in a thread when one is free; it goes on where the caller leaves meanwhile.

        Raises:
            QueueFullError: Too many calls wait already.
        """
        if self._calls >= self._max_calls:
            raise QueueFullError(
                f"{self._calls} calls of {self._name} run or wait, which is the most; "
                "try again later"
            )
        self._calls += 1
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            self._calls -= 1
            raise
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._threads.submit(self._run, work, answer)
        return await answer

    def _run(self, work: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        answer.get_loop().call_soon_threadsafe(self._done, answer, result, error)

    def _done(self, answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self._calls -= 1
        self._free.release()
        if answer.cancelled():  # the caller has left
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


class _Caller:
    """What a synchronous handler has as its `context`."""

    def __init__(self, context: Any) -> None:
        self._context, self._loop = context, asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._on_leave: list[Callable[[], None]] = []
        self._is_there = True
        self.peer, self.time_remaining = context.peer, context.time_remaining

    def invocation_metadata(self) -> Any:
        """What came with the call, as pairs."""
        return self._context.invocation_metadata() or ()

    def is_active(self) -> bool:
        """Whether the caller still waits."""
        return self._is_there

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has `callback` called at the end of the call; False where it has ended already."""
        with self._lock:
            if self._is_there:
                self._on_leave.append(callback)
            return self._is_there

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the handler, and the call with this status."""
        raise CallError(details, code)

    def write(self, response: Any) -> None:
        """Sends one message of a stream, from the handler's thread, which it gives back where the
        caller does not read.
        """
        writing = asyncio.run_coroutine_threadsafe(self._context.write(response), self._loop)
        try:
            writing.result(_LONGEST_WRITE_SECONDS)
        except TimeoutError:
            message = f"nothing was read for {_LONGEST_WRITE_SECONDS:g} s"
            raise CallError(message, grpc.StatusCode.DEADLINE_EXCEEDED) from None
        except Exception as error:
            raise CallError("the caller has gone", grpc.StatusCode.CANCELLED) from error

    def left(self) -> None:
        """The call has ended."""
        with self._lock:
            self._is_there = False
        for callback in self._on_leave:
            callback()


class _Unreadable:
    """When bytes that are no message came last, by method; few of them are logged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def note(self, method: str) -> None:
        """One more."""
        now = time.monotonic()
        with self._lock:
            due = now >= self._next.get(method, 0.0)
            if due:
                self._next[method] = now + _QUIET_SECONDS
        if due:
            _LOG.warning("%s: a request was no message; more are only counted for a while", method)


_unreadable = _Unreadable()
