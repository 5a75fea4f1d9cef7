"""The stopwatch, on a clock that is set by hand."""

from __future__ import annotations

import pytest
import torch

from benchmarks.stopwatch import Stopwatch, clock_of, interleave, split
from common.training.device import DeviceError


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


def test_a_burst_is_timed_as_a_whole_and_counts_for_one_step(clock: list[float]) -> None:
    seen: list[int] = []

    def step(number: int) -> None:
        seen.append(number)
        clock[0] += number

    watch = Stopwatch()
    interleave({"a": step}, {"a": watch}, 2, first=1, burst=3)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert watch.milliseconds() == 3500.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="torch sees no CUDA device"):
        clock_of("cuda")
