"""Which failures pass by themselves, and how long to wait between attempts."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import grpc

from common.rpc.errors import IN_ONE_CALL
from common.rpc.security import explained

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_GROWTH = 1.6


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
