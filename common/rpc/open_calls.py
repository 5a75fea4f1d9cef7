"""Calls that wait for their caller: how many may be open, and how they end from the server's side.

All of it lives on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from common.rpc.errors import DeadlineError, NotReadyError, QueueFullError, RpcError

FIRST_MESSAGE_SECONDS = 10.0
"""What a caller has from opening a call to its message."""

MOST_UNSENT = 4096
"""Calls without a message in a server; one more ends the oldest of them."""

STREAMS_PER_PEER = 100
"""Streams of one connection; a client holds one of health, and `ldcq status` one of progress."""

STREAMS_PER_HOST = 2048
"""Streams of one machine, which therefore leaves some to the others."""

MOST_STREAMS = 4096
"""Streams in a server."""


class OpenCalls:
    """The calls of a server that have sent no message yet, and its streams."""

    def __init__(self) -> None:
        self._unsent: dict[asyncio.Task[object], None] = {}  # the oldest first
        self._idle: set[asyncio.Task[object]] = set()
        self._streams: Counter[str] = Counter()
        self._reasons: dict[asyncio.Task[object], RpcError] = {}
        self._stopping = False

    @contextmanager
    def unsent(self) -> Iterator[None]:
        """While a call's first message is waited for.

        Raises:
            DeadlineError: It did not come in time.
            QueueFullError: Too many others wait for theirs.
            NotReadyError: The server stops.
        """
        if len(self._unsent) >= MOST_UNSENT:
            message = f"{MOST_UNSENT} calls are open without a message, which is the most"
            self._end(next(iter(self._unsent)), QueueFullError(message))
        task, loop = _current(), asyncio.get_running_loop()
        message = f"the request's message did not come within {FIRST_MESSAGE_SECONDS:g} s"
        timer = loop.call_later(FIRST_MESSAGE_SECONDS, self._end, task, DeadlineError(message))
        self._unsent[task] = None
        try:
            with self.endable():
                yield
        finally:
            timer.cancel()
            self._unsent.pop(task, None)

    @contextmanager
    def stream(self, peer: str) -> Iterator[None]:
        """While a stream to a peer is open.

        Raises:
            QueueFullError: The peer, its machine or the server has too many.
        """
        bounds = [("", MOST_STREAMS, "this server")]
        if not peer.startswith("unix:"):  # all that connect to a socket file have this address
            bounds.append((peer.rpartition(":")[0], STREAMS_PER_HOST, "this host"))
            bounds.append((peer, STREAMS_PER_PEER, "this connection"))
        for key, most, whose in bounds:
            if self._streams[key] >= most:
                raise QueueFullError(f"{whose} has {most} streams open, which is the most")
        keys = [key for key, _, _ in bounds]
        self._streams.update(keys)
        try:
            yield
        finally:
            self._streams.subtract(keys)
            for key in keys:
                if not self._streams[key]:
                    del self._streams[key]

    @contextmanager
    def endable(self) -> Iterator[None]:
        """While the call of this task can be ended at any time, because it only waits.

        Raises:
            RpcError: It was ended; a call that its client left is cancelled as usual.
        """
        task = _current()
        if self._stopping:
            raise _stopping()
        outermost = task not in self._idle
        self._idle.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if (reason := self._reasons.pop(task, None)) is None:
                raise
            task.uncancel()
            raise reason from None
        finally:
            if outermost:
                self._idle.discard(task)

    def stop(self) -> None:
        """Ends the calls that only wait; further ones are refused."""
        self._stopping = True
        for task in self._idle:
            self._end(task, _stopping())

    def _end(self, task: asyncio.Task[object], reason: RpcError) -> None:
        self._unsent.pop(task, None)
        self._reasons[task] = reason
        task.cancel()


def _stopping() -> RpcError:
    return NotReadyError("the server is stopping")


def _current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
