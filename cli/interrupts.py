"""Ctrl-C, SIGTERM and a closed terminal, without ending the launcher in the middle of something."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A signal asked for the end; everything that was started has been stopped.

    Attributes:
        exit_code: What a shell expects: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def interrupted(number: int) -> None:
    """Ends what is being done, at once."""
    raise Interrupted(number)


@contextmanager
def handled(act: Callable[[int], None]) -> Iterator[None]:
    """Calls `act` with the number of each signal that asks for the end.

    A signal that is ignored already (SIGHUP under `nohup`) stays ignored. Only for the main thread.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: act(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
