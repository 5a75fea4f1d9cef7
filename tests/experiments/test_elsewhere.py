"""Rows of runs on other CPUs on an experiment's page."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.elsewhere import with_elsewhere
from experiments.experiment import Difference, Experiment, Findings, Result, Row
from experiments.page import write
from services.actor.scores import Estimate


def test_rows_from_elsewhere_stand_below_the_own(tmp_path: Path) -> None:
    rows = [
        Row(
            "ldcq",
            {"candidates": 50},
            Estimate(3.0, 1.0, 5.0),
            Estimate(9.0, 8.0, 10.0),
            0.9,
            seeds=2,
        ),
        Row("behaviour", {"candidates": None}, Estimate(0.0, 0.0, 0.0), seeds=0),
    ]
    apart = Difference("ldcq", "bcq_h", {}, Estimate(2.0, 1.0, 3.0), None)
    found = Findings(rows, notes=["Own."], differences=[apart])
    experiment = Experiment("demo", "Demo", "It shows.", "none", {}, "Untuned.", lambda _: found)
    there = Result(experiment, "c", "small", "d", (0, 1), found, {}, 1.0, False, "A CPU (AVX2)")
    write(there, tmp_path / "avx2")

    both = with_elsewhere(found, tmp_path, seeds=3)

    assert [row.method for row in both.rows] == ["ldcq", "behaviour", "LDCQ (avx2)"]
    assert both.rows[2].episode_return == rows[0].episode_return
    assert both.rows[2].first_hit == rows[0].first_hit
    assert both.rows[2].settings == {"candidates": 50}
    assert both.notes[0] == "Own."
    assert "A CPU (AVX2), 2 seeds" in both.notes[1]
    assert "LDCQ - BCQ-H in return: 2.0 [1.0, 3.0]" in both.notes[1]
    assert with_elsewhere(found, tmp_path / "none", 3) == found
    assert json.loads((tmp_path / "avx2" / "results.json").read_text())["seeds"] == [0, 1]


def test_without_differences_the_note_tells_of_none(tmp_path: Path) -> None:
    found = Findings([Row("ldcq", {}, Estimate(3.0, 1.0, 5.0), seeds=2)])
    experiment = Experiment("demo", "Demo", "It shows.", "none", {}, "Untuned.", lambda _: found)
    there = Result(experiment, "c", "small", "d", (0, 1), found, {}, 1.0, False, "A CPU (AVX2)")
    write(there, tmp_path / "avx2")
    (note,) = with_elsewhere(found, tmp_path, seeds=2).notes
    assert note.endswith("played on A CPU (AVX2).")
