"""Which failures pass by themselves, and how long to wait between attempts."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from common.rpc.errors import IN_ONE_CALL
from common.rpc.security import explained

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_GROWTH = 1.6
_FORGOTTEN_SECONDS = 10.0


def status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """The code and the details of a failed call; want of trust is explained."""
    call: Any = error
    return call.code(), explained(call.details() or "")


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: nobody there, shut down meanwhile, or a full queue.

    A call or a message beyond its limit has the code of a full queue, but never passes.
    """
    code, details = status_of(error)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "larger than max" not in details and IN_ONE_CALL not in details
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Backoff:
    """Growing pauses with jitter, for a limited time after the first failure."""

    def __init__(self, patience: float, stop: threading.Event) -> None:
        """Allows `patience` seconds from the first `pause`; `stop` ends a pause early."""
        self._patience, self._stop = patience, stop
        self._deadline: float | None = None
        self._next = _FIRST_PAUSE

    def pause(self) -> bool:
        """Waits before the next attempt; False when the patience is used up."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._patience
        if now >= self._deadline:
            return False
        # Jitter spreads the callers of a replica that comes back; it decides no result.
        pause = self._next * random.uniform(0.5, 1.0)
        self._stop.wait(min(pause, self._deadline - now))
        self._next = min(self._next * _GROWTH, _LONGEST_PAUSE)
        return True


class Absence:
    """How long a client's calls have had no answer, and which of them still wait for one.
    Thread-safe.
    """

    def __init__(self, patience: float, places: threading.Semaphore | None) -> None:
        """Lets those calls wait that fail within `patience` seconds of the first of them, and find
        one of `places` free; None: there are enough.
        """
        self._patience, self._places = patience, places or threading.Semaphore(sys.maxsize)
        self._lock = threading.Lock()
        self._since = self._last = -math.inf

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], bool]]:
        """For one call, what says after each of its failures whether it may try again."""
        has_place = False

        def may_wait() -> bool:
            nonlocal has_place
            away = self._note()
            if not has_place and away <= self._patience:
                has_place = self._places.acquire(blocking=False)
            return has_place

        try:
            yield may_wait
        finally:
            if has_place:
                self._places.release()

    @property
    def seconds(self) -> float:
        """Since the first failure after an answer, or after a time without calls."""
        return self._last - self._since

    def end(self) -> None:
        """There was an answer."""
        self._last = -math.inf

    def _note(self) -> float:
        now = time.monotonic()
        with self._lock:
            if now - self._last > _FORGOTTEN_SECONDS:
                self._since = now
            self._last = now
            return now - self._since
