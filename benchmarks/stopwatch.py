"""Measures the parts of a repeated step."""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from common.training.device import DeviceError

Device = Literal["cpu", "cuda"]
Clock = Callable[[], float]


def clock_of(device: Device, threads: int = 1) -> Clock:
    """Seconds so far: of one thread on a CPU, its own; else those of the clock on the wall, on a
    GPU once that has finished what it was given.

    CPU time does not count what other processes take, but counts all threads.

    Raises:
        DeviceError: There is no CUDA device.
    """
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter
    if not torch.cuda.is_available():
        raise DeviceError("device: got 'cuda', but torch sees no CUDA device; expected cpu")

    def finished() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return finished


class Stopwatch:
    """Seconds of named parts of a step; what one part calls of another counts as the other's.

    Args:
        clock: What tells the seconds so far; None: `clock_of` a single thread on a CPU.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or clock_of("cpu")
        self._laps: list[dict[str, float]] = []
        self._parts: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted as `part`'s."""

        def call(*arguments: Any, **named: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            start = self._clock()
            try:
                return function(*arguments, **named)
            finally:
                seconds = self._clock() - start
                self._parts[part] += seconds - self._inner
                self._inner = outer + seconds

        return call

    def attach(self, owner: object, **parts: str) -> None:
        """Times methods of an object from the outside: `attach(replay, draw="sampling")`."""
        for method, part in parts.items():
            setattr(owner, method, self.timed(part, getattr(owner, method)))

    def lap(self, step: Callable[[int], object], *numbers: int) -> None:
        """Runs steps of these numbers and notes the time of one, and its parts'."""
        self._parts.clear()
        start = self._clock()
        for number in numbers:
            step(number)
        seconds = {**self._parts, "total": self._clock() - start}
        self._laps.append({part: taken / len(numbers) for part, taken in seconds.items()})

    def milliseconds(self, part: str = "total") -> float:
        """The median over all laps; 0 for a part that never ran."""
        return 1e3 * statistics.median(lap.get(part, 0.0) for lap in self._laps)


def interleave(
    steps: Mapping[str, Callable[[int], object]],
    watches: Mapping[str, Stopwatch],
    rounds: int,
    *,
    first: int = 0,
    burst: int = 1,
) -> None:
    """Steps one after the other, round by round: what disturbs the machine disturbs all alike. Each
    is given its number, from `first` on.

    In a round each makes `burst` steps: a GPU is given the next before it has finished the last.
    """
    gc.collect()
    for start in range(first, first + rounds * burst, burst):
        for name, step in steps.items():
            watches[name].lap(step, *range(start, start + burst))


def split(watch: Stopwatch, parts: Sequence[str], rest: str) -> dict[str, float]:
    """Medians of the parts in ms, and of what no part accounts for, as `rest`."""
    found = {f"{part}_ms": watch.milliseconds(part) for part in parts}
    return {**found, f"{rest}_ms": max(0.0, watch.milliseconds() - sum(found.values()))}
