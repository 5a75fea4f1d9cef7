"""The stopwatch, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from benchmarks.stopwatch import Stopwatch, interleave, split


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that it shows."""
    now = [0.0]
    monkeypatch.setattr("benchmarks.stopwatch.time.process_time", lambda: now[0])
    return now


def test_a_part_inside_another_counts_once_and_the_rest_is_nobodys(clock: list[float]) -> None:
    watch = Stopwatch()

    def work(seconds: float) -> float:
        clock[0] += seconds
        return seconds

    inner = watch.timed("inner", work)
    outer = watch.timed("outer", lambda: (work(2.0), inner(3.0)))
    watch.lap(lambda _: (outer(), work(5.0)), 0)
    assert split(watch, ("outer", "inner"), "rest") == {
        "outer_ms": 2000.0, "inner_ms": 3000.0, "rest_ms": 5000.0,
    }  # fmt: skip
    assert watch.milliseconds() == 10_000.0


def test_steps_take_turns_and_their_medians_count(clock: list[float]) -> None:
    order: list[tuple[str, int]] = []

    def step(name: str, factor: float) -> object:
        def run(number: int) -> None:
            order.append((name, number))
            clock[0] += factor * number

        return run

    watches = {name: Stopwatch() for name in ("a", "b")}
    interleave({"a": step("a", 1.0), "b": step("b", 0.5)}, watches, 3, first=2)  # type: ignore[dict-item]
    assert order == [(name, number) for number in (2, 3, 4) for name in ("a", "b")]
    assert [watch.milliseconds() for watch in watches.values()] == [3000.0, 1500.0]
