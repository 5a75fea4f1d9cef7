"""Generators side by side: all items, in each one's order, and nothing left open."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from services.actor.merging import merged

Numbers = Generator[int, None, None]


class Source:
    """Numbers up to `count`; notes who runs beside it, and whether it was closed."""

    running = 0
    most = 0
    lock = threading.Lock()

    def __init__(self, count: int, fails: BaseException | None = None) -> None:
        self.count, self.fails, self.closed = count, fails, False

    def items(self) -> Numbers:
        with Source.lock:
            Source.running += 1
            Source.most = max(Source.most, Source.running)
        try:
            for number in range(self.count):
                yield number
                if self.fails is not None:
                    raise self.fails
        finally:
            self.closed = True
            with Source.lock:
                Source.running -= 1


@pytest.fixture(autouse=True)
def _nobody_runs() -> None:
    Source.running = Source.most = 0


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_every_item_comes_once_in_its_sources_order(at_once: int) -> None:
    sources = {name: Source(count) for name, count in (("a", 40), ("b", 0), ("c", 7), ("d", 40))}
    found = list(merged({name: one.items() for name, one in sources.items()}, at_once))
    for name, source in sources.items():
        assert [item for owner, item in found if owner == name] == list(range(source.count))
    assert Source.most <= at_once
    assert all(source.closed for source in sources.values())


def test_as_many_run_side_by_side_as_may() -> None:
    together = threading.Barrier(2, timeout=20)

    def meets() -> Numbers:
        yield together.wait()

    assert sorted(item for _, item in merged({"a": meets(), "b": meets()}, 2)) == [0, 1]


def test_what_a_source_raises_ends_all() -> None:
    endless, failing = Source(10**9), Source(5, KeyError("no latents"))
    never = Source(3)
    sources = {"a": endless.items(), "b": failing.items(), "c": never.items()}
    with pytest.raises(KeyError, match="no latents"):
        list(merged(sources, 2))
    assert endless.closed
    assert failing.closed
    assert Source.running == 0


def test_a_reader_may_leave() -> None:
    endless = Source(10**9)
    reader = merged({"a": endless.items()}, 2)
    assert next(reader) == ("a", 0)
    reader.close()
    assert endless.closed
