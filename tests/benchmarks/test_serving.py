"""The benchmark of the serving path measures what it names."""

from __future__ import annotations

import json

from benchmarks.serving import run


def test_measures_what_it_names() -> None:
    result = run(steps=1, rounds=1, calls=6)
    found = json.loads(result.json())
    assert set(found["summary"]) == {"learner_ratio_in_process", "actor_p95_chunks"}
    assert all(value > 0 for value in found["summary"].values())
    loops = [row["loop"].partition(",")[0] for row in found["rows"]]
    assert loops.count("open") == 3
    assert loops.count("closed") == 6
    for row in found["rows"]:
        assert row["latents_per_s"] > 0
        assert row["compute_ms"][0] > 0
        assert row["total_ms"] == sorted(row["total_ms"])
        in_process = "in process" in row["mix"]
        assert (row["overhead_ms"][0] == 0) == in_process
