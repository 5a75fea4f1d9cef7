"""SIGTERM and SIGINT as something to wait for."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Turns the first SIGTERM or SIGINT into a set event; a second one acts as it always does.

    Use as a context manager in the main thread, the only one in which Python lets handlers be set.

    Attributes:
        event: Set when the process has been asked to end.
        number: The signal that asked, or None.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    @property
    def exit_code(self) -> int:
        """What the process should return: 143 after SIGTERM, 130 after SIGINT, else 0."""
        return 0 if self.number is None else 128 + self.number

    def __enter__(self) -> StopSignals:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.number = number
        self._restore()
        self.event.set()

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
