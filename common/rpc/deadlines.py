"""A call's deadline goes on to the calls made for it: nobody works for a caller who has left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LONGEST_ANSWER_SECONDS = 1.0
_ANSWER_SHARE = 0.1

_end: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def handling(seconds: float | None) -> Iterator[None]:
    """The deadline of what is called meanwhile, in this context: the caller of this server still
    gives so many seconds, or None: any time.
    """
    left = math.inf if seconds is None else seconds
    token = _end.set(time.monotonic() + left - min(_LONGEST_ANSWER_SECONDS, _ANSWER_SHARE * left))
    try:
        yield
    finally:
        _end.reset(token)


def at_most(seconds: float) -> float:
    """Seconds that a call may take: so many, or what is left of the deadline; at least 0.

    A tenth of the caller's time, up to a second, is kept for the answer that says why not.
    """
    return max(0.0, min(seconds, _end.get() - time.monotonic()))
