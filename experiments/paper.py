"""The paper's numbers, as it prints them, and what they were measured on."""

from __future__ import annotations

from experiments.result import PaperValue

_MAZE = "maze2d-large-v1 of D4RL"
_DOOR = "door-human of D4RL"

MAZE2D_LARGE: dict[str, PaperValue] = {
    "bc": PaperValue(5.0, "Tables 1 and 8", _MAZE),
    "bcq": PaperValue(6.2, "Tables 1 and 8", _MAZE),
    "ldcq": PaperValue(150.1, "Tables 1 and 8", _MAZE, 2.9),
    "ldgc": PaperValue(206.8, "Tables 1 and 8", _MAZE, 3.1),
    "ldcp": PaperValue(184.3, "Table 8", _MAZE, 3.8),
}
"""The authors' release scores mazes by the first hit: these belong beside that column."""

DOOR_HUMAN: dict[str, PaperValue] = {
    "bc": PaperValue(0.5, "Table 3", _DOOR),
    "bcq": PaperValue(0.0, "Table 3", _DOOR),
    "ldcq": PaperValue(11.8, "Table 3", _DOOR),
}

RANDOM_WALK: dict[str, PaperValue] = {
    "ldcq": PaperValue(-2.2, "supplement D", "the paper's random walk"),
    "bcq": PaperValue(-66.0, "supplement D", "the paper's random walk"),
}
