import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments.experiment import (
    Difference,
    Experiment,
    Findings,
    PaperValue,
    Picture,
    Result,
    Row,
    Scalar,
)
from experiments.page import duration, page, write
from services.actor.report.theme import Theme, new_figure
from services.actor.scores import Estimate


def draw(_: Theme) -> Figure:
    figure, axes = new_figure(2, 2)
    axes[0].plot([0, 1], [0, 1])
    return figure


@pytest.fixture
def result() -> Result:
    ldcq = Row(
        "ldcq",
        settings={"horizon": 30},
        episode_return=Estimate(67.0, 60.0, 75.25),
        first_hit=Estimate(177.14, 170.0, 184.0),
        success=0.86,
        measures={"off_support": 0.031},
        episodes=100,
        seeds=3,
        train_seconds=700.0,
        paper=PaperValue(150.1, "Table 1", "maze2d-large-v1 of D4RL", 2.9),
    )
    bc = Row("bc", settings={"horizon": 30}, episode_return=Estimate(1.0, 0.0, 2.0), seeds=3)
    findings = Findings(
        [ldcq, bc],
        [Picture("scores", "Scores of the methods.", draw)],
        ["The critic cuts corners."],
        {"seed 0": "abc"},
        [
            Difference("ldcq", "bc", {"horizon": 30}, Estimate(66.0, 50.0, 82.0), None),
            Difference(
                "ldcq", "bcq_h", {"horizon": 10}, Estimate(-4.0, -9.0, 1.0), Estimate(-5, -9, -1)
            ),
        ],
    )
    command = "ldcq experiment maze2d --scale small --seeds 3"
    tuned = "Nothing was tuned."
    maze = Experiment("maze2d", "Large maze", "It shows.", "Table 1", {}, tuned, lambda _: findings)
    settings: dict[str, tuple[Scalar, Scalar]] = {
        "horizon": (10, 30),
        "data.generate.maze": ("large", None),
    }
    return Result(
        maze, command, "small", "ldcq/x-v0", (0, 1, 2), findings, settings, 754.0, False, "a CPU"
    )


def test_the_json_holds_what_readers_of_rows_expect(result: Result, tmp_path: Path) -> None:
    write(result, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    first, second = content["rows"]
    assert first["method"] == "ldcq"
    assert first["return"] == {"mean": 67.0, "ci_low": 60.0, "ci_high": 75.25}
    assert first["first_hit"]["mean"] == 177.14
    assert (first["success"], first["episodes"], first["seeds"]) == (0.86, 100, 3)
    assert (first["train_seconds"], first["horizon"], first["off_support"]) == (700.0, 30, 0.031)
    assert first["paper"]["value"] == 150.1
    assert second["first_hit"] is None
    assert second["paper"] is None
    assert content["seeds"] == [0, 1, 2]
    assert content["command"] == result.command
    assert content["settings"]["horizon"] == {"value": 10, "paper": 30}
    assert content["tuned"] == "Nothing was tuned."
    assert content["differences"][0]["return"]["mean"] == 66.0
    assert (content["differences"][1]["horizon"], content["seconds"]) == (10, 754.0)


def test_the_csv_has_one_line_per_row_and_the_intervals_ends(
    result: Result, tmp_path: Path
) -> None:
    write(result, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == ["ldcq", "bc"]
    assert [lines[0][name] for name in ("return", "return_low", "return_high")] == [
        "67.0", "60.0", "75.25",
    ]  # fmt: skip
    assert (lines[0]["paper"], lines[1]["paper"]) == ("150.1", "")


def test_the_page_shows_the_table_the_picture_and_the_command(
    result: Result, tmp_path: Path
) -> None:
    write(result, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert (
        "| LDCQ | 30 | 67.0 [60.0, 75.2] | 177.1 [170.0, 184.0] | 0.86 | 0.03 | 150.1 ± 2.9 |"
        " 100 | 3 | 12 min |" in text
    )
    assert "![Scores of the methods.](scores.png)" in text
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert result.command in text
    assert "training and playing, took 13 min one after the other. The last" in text
    assert "The last call ran on a CPU." in text
    assert "Nothing was tuned." in text
    assert "| `horizon` | `10` | `30` |\n| `data.generate.maze` | `large` | - |" in text
    assert "| LDCQ - BC | 30 | 66.0 [50.0, 82.0], ahead | - |" in text
    assert (
        "| LDCQ - BCQ-H | 10 | -4.00 [-9.00, 1.00], open | -5.00 [-9.00, -1.00], behind |" in text
    )
    assert "Intervals are Student's, over 3 training seeds" in text
    assert "other data (Table 1, maze2d-large-v1 of D4RL)" in text


def test_columns_that_no_row_fills_are_left_out(result: Result) -> None:
    text = page(result).replace(page(result).splitlines()[0], "")
    assert "first hit" in text
    bare = Result(
        **{
            **result.__dict__,
            "findings": Findings([Row("ldcq", measures={"walk_gap": 0.2}, seeds=1)]),
        }
    )
    assert "| method | walk gap | seeds |" in page(bare)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 s"), (754.0, "13 min"), (12_240.0, "3.4 h")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_page_names_success_where_that_is_the_score(result: Result, tmp_path: Path) -> None:
    scored = Row("ldcq", episode_return=Estimate(1, 0, 2), success_score=Estimate(64, 50, 75))
    by_success = replace(result, findings=replace(result.findings, rows=[scored]))
    write(by_success, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| method | success % | return |" in page
    assert "*success %* is the score" in page
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["success_score"] == {"mean": 64, "ci_low": 50, "ci_high": 75}
