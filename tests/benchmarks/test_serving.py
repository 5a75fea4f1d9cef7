"""The benchmark of the serving path measures what it names."""

from __future__ import annotations

import json

import pytest

from benchmarks import serving
from benchmarks.serving import Timing, run


def test_measures_what_it_names() -> None:
    result = run(steps=1, rounds=1, calls=6)
    found = json.loads(result.json())
    assert set(found["summary"]) == {
        "learner_ratio_in_process",
        "actors_ratio_joined",
        "actor_p95_chunks",
    }
    loops = [row["loop"].partition(",")[0] for row in found["rows"]]
    assert loops.count("open") == 3
    assert loops.count("closed") == 6
    for row in found["rows"]:
        assert row["total_ms"] == sorted(row["total_ms"])
        in_process = "in process" in row["mix"]
        assert (row["overhead_ms"][0] == 0) == in_process


def test_a_row_has_percentiles_of_the_calls_and_their_parts() -> None:
    timings = [Timing(total=n / 100, queue=n / 400, compute=n / 200) for n in range(101)]
    row = serving._row("actor", "closed, 1", (2, 50), timings, seconds=10.0)
    assert (row["mix"], row["calls"], row["latents_per_s"]) == ("actor 2 x 50", 101, 1010.0)
    assert row["total_ms"] == [500.0, 950.0, 990.0]
    assert row["queue_ms"] == [125.0, 237.5, 247.5]
    assert row["compute_ms"] == [250.0, 475.0, 495.0]
    assert row["overhead_ms"] == [125.0, 237.5, 247.5]


def test_throughput_through_the_server_is_compared_round_by_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight calls of 1 s in process, over the 4 s and then the 2 s of as many to the server."""
    took = iter([0.0, 4.0, 2.0])  # the first call only warms up
    monkeypatch.setattr(
        serving, "closed_loop", lambda _call, _callers, count: ([THERE] * count, next(took))
    )
    ratios, alone, (timings, seconds) = serving._take_turns(Process(), lambda _: THERE, 2)  # type: ignore[arg-type]
    assert ratios == [2.0, 4.0]
    assert (len(alone), len(timings), seconds) == (16, 16, 6.0)


THERE = Timing(total=0.5, queue=0.1, compute=0.4)


class Process:
    """A sampler in process whose calls take a second."""

    def in_process(self, shape: tuple[int, int], seed: int) -> Timing:  # noqa: ARG002
        return Timing(1.0, 0.0, 1.0)
