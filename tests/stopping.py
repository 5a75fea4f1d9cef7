"""Ends a stage once it has said something, however slow the machine is."""

from __future__ import annotations

import threading

from common.rpc.stage import Progress


def stop_once_said(progress: Progress, stop: threading.Event, words: str) -> None:
    """Sets `stop` when the stage reports a message with these words.

    Args:
        progress: The stage's.
        stop: What ends it.
        words: Part of the message.
    """

    def watch() -> None:
        for update in progress.updates(timeout=60.0, stop=stop):
            if words in update.message:
                break
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
