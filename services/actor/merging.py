"""Iterators that are run side by side."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def merged(
    sources: Mapping[str, Generator[T, None, None]], at_once: int
) -> Generator[tuple[str, T], None, None]:
    """The items of several generators as they come, each source run in a thread of its own.

    A source begins when one before it has ended, in their order, and keeps its own order. All are
    closed at the end, one that fails ends the others after the item they are at.

    Args:
        sources: By name.
        at_once: The most that run side by side.

    Yields:
        The source's name, and an item of it.

    Raises:
        BaseException: What a source raised.
    """
    found: SimpleQueue[tuple[str, T] | Future[None]] = SimpleQueue()
    over = Event()

    def run(name: str, source: Generator[T, None, None]) -> None:
        with closing(source):
            for item in source:
                found.put((name, item))
                if over.is_set():
                    return

    with ThreadPoolExecutor(at_once, thread_name_prefix="merged") as pool:
        running = [pool.submit(run, *source) for source in sources.items()]
        try:
            for future in running:
                future.add_done_callback(found.put)
            left = len(running)
            while left:
                item = found.get()
                if isinstance(item, Future):
                    item.result()
                    left -= 1
                else:
                    yield item
        finally:
            over.set()
            for future in running:
                future.cancel()
