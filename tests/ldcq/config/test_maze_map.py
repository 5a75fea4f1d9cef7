"""Maps are read in both spellings, and one that is no maze is refused with its reason."""

from __future__ import annotations

import pytest

from ldcq.config import Config, PointMazeConfig, dump, load
from ldcq.config.maze_map import maze_rows

ROWS = ("#####", "#R.G#", "#####")


@pytest.mark.parametrize(
    "given",
    [
        ["#####", "#R G#", "#####"],
        ["#####", "#r.g#", "#####"],
        [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]],
    ],
)
def test_spellings_are_one_map(given: object) -> None:
    assert maze_rows(given) == ROWS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["###", "#G#"], "three rows or more"),
        (["####", "#G#", "####"], r"widths \[4, 3, 4\]; expected .* of one width"),
        (["####", "#G  ", "####"], "the border is open"),
        (["####", "#  #", "####"], "0 goals; expected exactly one"),
        (["####", "#GC#", "####"], "2 goals"),
        (["#####", "#G#R#", "#####"], r"\(1, 1\) and \(1, 3\)"),
        (["####", "#GX#", "####"], "row 1 holds 'X'"),
        ([3, 4], "expected a map"),
        (7, "expected a map"),
    ],
)
def test_what_is_no_maze_is_explained(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maze_rows(given)


def test_a_configuration_with_a_map_survives_being_written() -> None:
    config = load("demo", ["data.generate.maze=['#####', '#R G#', '#####']"])
    assert isinstance(config.data.generate, PointMazeConfig)
    assert config.data.generate.maze == ROWS
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert "#R.G#" in dump(config)
