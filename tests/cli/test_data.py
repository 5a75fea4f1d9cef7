"""`ldcq data` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.data import app
from cli.main import app as main_app
from ldcq.data.episodes import DataError
from tests.common.data.samples import BOX, FLAT, episode
from tests.common.data.samples import write as minari_dataset
from tests.common.data.test_goals import write

ID = "ldcq/pointmaze-umaze-v0"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    arguments = ["pointmaze", "--maze", "umaze", "--steps", "1500", "--seed", "2"]
    result = CliRunner().invoke(app, [*arguments, "--store", str(root)])
    assert result.exit_code == 0, result.output
    assert f"{ID}: written" in result.stdout
    return root


@pytest.fixture(autouse=True)
def _empty_minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_names_what_is_there(store: Path, tmp_path: Path) -> None:
    rows = json.loads(run("list", "--store", str(store), "--json"))["datasets"]
    assert [(row["id"], row["steps"]) for row in rows] == [(ID, 1500)]
    assert ID in run("list", "--store", str(store))
    assert "No datasets here" in run("list", "--store", str(tmp_path))


def test_inspect_counts_windows(store: Path) -> None:
    arguments = ("inspect", ID, "--store", str(store), "--horizon", "20")
    summary = json.loads(run(*arguments, "--observation-key", "observation", "--json"))
    assert (summary["steps"], summary["spaces"]["state_dim"]) == (1500, 4)
    assert sum(summary["length_histogram"]["counts"]) == summary["episodes"]
    assert 0 < summary["windows"] <= 1500 - 19
    shown = run(*arguments)
    assert "state dim 8" in shown
    assert "Lengths" in shown


def test_inspect_shows_one_length_as_one_row_and_actions_outside(tmp_path: Path) -> None:
    parts = [episode(20, seed) for seed in range(3)]
    parts[1]["actions"][4, 1] = 1.25
    minari_dataset("ours/even-v0", FLAT, BOX, *parts)
    arguments = ("inspect", "ours/even-v0", "--store", str(tmp_path), "--horizon", "5")
    summary = json.loads(run(*arguments, "--json"))
    assert summary["length_histogram"]["counts"] == [3]
    assert summary["actions_outside"] == {"rows": 1, "by_up_to": 0.25}
    shown = run(*arguments)
    assert re.search(r"│ 20 +│ 3 ", shown)
    assert "rows 1, by up to 0.25" in shown


def test_help_fills_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = CliRunner().invoke(main_app, ["run", "--help"]).stdout
    assert "and only those that the configured methods need." in shown


def test_inspect_tells_rewards_of_other_goals(store: Path, tmp_path: Path) -> None:
    name = write(tmp_path, (1.0, -1.0), (0.0, 1.0)).data.dataset
    arguments = ("inspect", name, "--store", str(tmp_path), "--horizon", "20", "--json")
    said = json.loads(run(*arguments))["other_goals"]
    assert "data.reward={kind: sparse, goal: [-1.0, 1.0], threshold: 0.5}" in said
    own = ("inspect", ID, "--store", str(store))
    assert json.loads(run(*own, "--json"))["other_goals"] is None
    assert "other goals" not in run(*own)


def test_a_second_run_generates_nothing(store: Path) -> None:
    arguments = ("pointmaze", "--maze", "umaze", "--steps", "1500", "--seed", "2")
    assert "already there" in run(*arguments, "--store", str(store))


@pytest.mark.parametrize("command", ["pointmaze", "door-demos", "inspect", "list"])
def test_every_command_has_an_example(command: str) -> None:
    assert "Example: ldcq data" in run(command, "--help")


def test_ensure_makes_a_configurations_dataset_once(tmp_path: Path) -> None:
    config, root = tmp_path / "tiny.yaml", str(tmp_path / "store")
    config.write_text(
        "base: demo\ndata: {dataset: ldcq/tiny-v0, generate: {maze: umaze, steps: 400}}\n"
    )
    assert "ldcq/tiny-v0: written" in run("ensure", str(config), "--store", root)
    assert "ldcq/tiny-v0: ready" in run("ensure", str(config), "--store", root)


def test_ensure_refuses_a_dataset_that_is_not_to_be_had(tmp_path: Path) -> None:
    config = tmp_path / "unknown.yaml"
    config.write_text("data: {dataset: nobody/knows-v0}\n")
    result = CliRunner().invoke(app, ["ensure", str(config), "--store", str(tmp_path)])
    assert isinstance(result.exception, DataError)
    assert "nobody/knows-v0" in str(result.exception)
