"""What the README tells people to type is understood by what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from ldcq.config import PointMazeConfig, load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.M | re.S)
LINES = [line.partition("#")[0].strip() for _, text in BLOCKS for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("ldcq ")]
TARGETS = [line.split()[1] for line in LINES if line.startswith("make ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line: str) -> None:
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line)[1:]
    context = command.make_context("ldcq", list(arguments))
    while hasattr(command, "resolve_command"):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
        # Parses and validates every option; nothing is run.
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_the_configurations_shown_are_valid(tmp_path: Path) -> None:
    shown = [text for language, text in BLOCKS if language == "yaml"]
    for number, text in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(text)
    mine, maze = (load(tmp_path / f"{number}.yaml").data for number in range(len(shown)))
    assert mine.observation_keys == ("position", "velocity")
    assert isinstance(maze.generate, PointMazeConfig)
    assert maze.generate.maze[1] == "#R....#"


def test_folders_named_exist() -> None:
    for folder in ("proto/ldcq/v1", "common", "services/vae", "cli", "docs/adr", "tests"):
        assert f"`{folder.split('/')[-1]}`" in README or f"`{folder}`" in README
        assert (ROOT / folder).is_dir()


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 8
    assert {"demo", "test"} <= set(TARGETS)
