"""`ldcq data` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner

from cli.data import app
from cli.main import app as main_app
from common.data import ensure_dataset
from ldcq.config import ConfigError, DataConfig, PointMazeConfig
from ldcq.data.episodes import DataError
from tests.common.data.samples import BOX, FLAT, episode
from tests.common.data.samples import write as minari_dataset
from tests.common.data.test_refusals import write

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


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with PointMaze as pictures of 24 x 24, which three convolutions can halve."""
    root = tmp_path_factory.mktemp("pixels")
    made = PointMazeConfig(maze="umaze", steps=400, pixels=24, max_episode_steps=50)
    assert ensure_dataset(DataConfig(dataset="ours/pixels-v0", generate=made), root)
    return root


def test_inspect_shows_images_and_the_setting_that_compresses_them(pixels: Path) -> None:
    arguments = ("inspect", "ours/pixels-v0", "--store", str(pixels), "--horizon", "10")
    keys = ("--observation-key", "image", "--observation-key", "velocity")
    summary = json.loads(run(*arguments, *keys, "--json"))
    count = summary["steps"] + summary["episodes"]
    size = {"height": 24, "width": 24, "channels": 3}
    assert summary["images"] == {"per_observation": 1, **size, "in_all": count}
    assert summary["state"] == {"image": 32, "velocity": 2}
    assert summary["spaces"]["state_dim"] == 34
    assert "frames={channels: [32, 64, 128]} compresses each to 32" in summary["setting"]
    shown = run(*arguments)
    assert "height 24, width 24, channels 3" in shown
    assert "images are not flattened" in shown


def test_inspect_takes_a_configuration_with_frames(pixels: Path, tmp_path: Path) -> None:
    file = tmp_path / "pixels.yaml"
    file.write_text(
        "data: {dataset: ours/pixels-v0, observation_keys: [image]}\nhorizon: 10\n"
        "frames: {latent_dim: 6, channels: [8]}\n"
    )
    arguments = ("inspect", str(file), "--store", str(pixels), "--json")
    summary = json.loads(run(*arguments))
    assert (summary["state"], summary["setting"]) == ({"image": 6}, None)
    assert summary["suspicious_steps"] == 0
    others = json.loads(
        run(*arguments, "--observation-key", "velocity", "--observation-key", "image")
    )
    assert others["state"] == {"velocity": 2, "image": 6}


def test_inspect_never_flattens_rows_of_pixels(tmp_path: Path) -> None:
    path, config = tmp_path / "carla.hdf5", tmp_path / "carla.yaml"
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).integers(0, 256, (40, 6912)).astype(float)
        file["actions"], file["rewards"] = np.zeros((40, 2)), np.zeros(40)
        file["terminals"], file["timeouts"] = np.zeros(40), np.arange(40) % 20 == 19
    arguments = ("--store", str(tmp_path), "--horizon", "5", "--json")
    refused = CliRunner().invoke(app, ["inspect", str(path), *arguments])
    assert isinstance(refused.exception, DataError)
    assert "frames={shape: [H, W, C]}" in str(refused.exception)
    config.write_text(f"data: {{dataset: {path}}}\nframes: {{shape: [48, 48, 3]}}\n")
    summary = json.loads(run("inspect", str(config), *arguments))
    assert (summary["images"]["height"], summary["images"]["in_all"]) == (48, 40)
    assert (summary["spaces"]["state_dim"], summary["state"]) == (32, None)


def test_images_of_odd_sides_are_to_be_resized(tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (15, 16, 3), np.uint8)
    part = episode(20)
    part["observations"] = np.zeros((21, 15, 16, 3), np.uint8)
    minari_dataset("ours/odd-v0", image, BOX, part)
    arguments = ("inspect", "ours/odd-v0", "--store", str(tmp_path), "--horizon", "5", "--json")
    summary = json.loads(run(*arguments))
    assert "resize them to multiples of 16 and set frames={}" in summary["setting"]
    assert summary["state"] is None


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


def test_data_of_a_task_are_generated_and_run_by_the_next_command(tmp_path: Path) -> None:
    store = tmp_path / "store"
    arguments = ["generate", "maze2d-large", "--steps", "300", "--seed", "4", "--store", str(store)]
    first = CliRunner().invoke(app, arguments, catch_exceptions=False)
    name = "ldcq/pointmaze-large-v0"
    assert f"{name}: written, in {store / 'datasets' / name}" in first.stdout
    following = f"next: ldcq run maze2d-large --set data.dataset={name} --store {store}"
    assert following in first.stdout.replace("\n", "")
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "already there" in again.stdout
    tasks = CliRunner().invoke(main_app, ["tasks", "maze2d-large", "--store", str(store)])
    assert f"on this machine: {store / 'datasets' / name}" in tasks.stdout
    assert "generated by: ldcq data generate maze2d-large, then ldcq run maze2d-large" in (
        tasks.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kitchen-mixed"], "'kitchen-mixed': no data of its kind can be generated"),
        (["demo"], "'demo': no data of its kind can be generated"),
        (["scenes"], "did you mean 'scene'"),
        (["hopper-medium"], "0 files given, expected 1, or one for all: the layers of trained"),
        (["hopper-medium", "--policy", "a", "--policy", "b"], "2 files given, expected 1"),
        (["scene", "--policy", "a.npz"], "--policy a.npz: expected none"),
    ],
)
def test_what_cannot_be_generated_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        CliRunner().invoke(
            app, ["generate", *arguments, "--store", str(tmp_path)], catch_exceptions=False
        )
    assert said in str(raised.value)
    assert not (tmp_path / "datasets").exists()
