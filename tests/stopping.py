"""Ends a stage once it has said something, however slow the machine is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from common.rpc.stage import Progress

T = TypeVar("T")


def in_turn(values: AsyncIterator[T]) -> Iterator[T]:
    """An asynchronous iterator as one for a thread without an event loop."""

    async def following() -> T:
        return await anext(values)

    with asyncio.Runner() as runner:
        while True:
            try:
                value = runner.run(following())
            except StopAsyncIteration:
                return
            yield value


def stop_once_said(progress: Progress, stop: threading.Event, words: str) -> None:
    """Sets `stop` when the stage reports a message with these words.

    Args:
        progress: The stage's.
        stop: What ends it.
        words: Part of the message.
    """

    def watch() -> None:
        for update in in_turn(progress.updates(timeout=60.0, stop=stop)):
            if words in update.message:
                break
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
