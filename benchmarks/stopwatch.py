"""Measures the parts of a repeated step."""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Stopwatch:
    """CPU seconds of named parts of a step; what one part calls of another counts as the other's.

    Of single-threaded steps: on a quiet machine they take as long, and on a busy one what other
    processes take is not counted.
    """

    def __init__(self) -> None:
        self._laps: list[dict[str, float]] = []
        self._parts: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted as `part`'s."""

        def call(*arguments: Any, **named: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            start = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                seconds = time.process_time() - start
                self._parts[part] += seconds - self._inner
                self._inner = outer + seconds

        return call

    def attach(self, owner: object, **parts: str) -> None:
        """Times methods of an object from the outside: `attach(replay, draw="sampling")`."""
        for method, part in parts.items():
            setattr(owner, method, self.timed(part, getattr(owner, method)))

    def lap(self, step: Callable[[int], object], number: int) -> None:
        """Runs one step and notes its time, and its parts'."""
        self._parts.clear()
        start = time.process_time()
        step(number)
        self._laps.append({**self._parts, "total": time.process_time() - start})

    def milliseconds(self, part: str = "total") -> float:
        """The median over all laps; 0 for a part that never ran."""
        return 1e3 * statistics.median(lap.get(part, 0.0) for lap in self._laps)


def interleave(
    steps: Mapping[str, Callable[[int], object]],
    watches: Mapping[str, Stopwatch],
    rounds: int,
    *,
    first: int = 0,
) -> None:
    """Steps one after the other, round by round: what disturbs the machine disturbs all alike. Each
    is given the number of the round, from `first` on.
    """
    gc.collect()
    for number in range(first, first + rounds):
        for name, step in steps.items():
            watches[name].lap(step, number)


def split(watch: Stopwatch, parts: Sequence[str], rest: str) -> dict[str, float]:
    """Medians of the parts in ms, and of what no part accounts for, as `rest`."""
    found = {f"{part}_ms": watch.milliseconds(part) for part in parts}
    return {**found, f"{rest}_ms": max(0.0, watch.milliseconds() - sum(found.values()))}
