"""What a user gets for a wrong command: one message that says what to do, exit code 2, no trace."""

from __future__ import annotations

import io
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cli.main import main
from cli.scores import score_table
from common.store import Meta, Store, stage_spec
from ldcq.config import load
from tests.cli.refused import Refused

TINY = Path(__file__).parents[1] / "tiny.yaml"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("vae.epoch=3", "vae.epoch: unknown key; did you mean 'epochs'?"),
        ("vae.epochs=-1", "vae.epochs: got -1; Input should be greater than 0"),
        ("vae=3", "vae: got 3; expected a section of keys and values"),
        ("vae.epochs.x=3", "'epochs' is not a section, it holds 2"),
        ("vae.epochs", "--set vae.epochs: expected KEY=VALUE"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("vae.epochs=[1", "--set vae.epochs=[1: not valid YAML"),
        ("evaluation.reference_scores=[5, 5]", "got [5.0, 5.0], expected two numbers, ascending"),
        ("variants={a/b: {seed: 1}}", "variants.a/b is given, expected a name of letters"),
        # Brackets are markup to the library that prints: they must come out as they went in.
        ("vae.encoder='[/red]'", "vae.encoder: got '[/red]'"),
    ],
)
def test_a_setting_that_cannot_be(refused: Refused, setting: str, message: str) -> None:
    assert message in refused("config", TINY, "--set", setting)


@pytest.mark.parametrize(
    ("normalised", "title"),
    [
        (True, "Normalised scores, mean [interval over episodes]"),
        (False, "Scores, not normalised, mean [interval over episodes]"),
    ],
)
def test_the_table_says_what_its_scores_are(normalised: bool, title: str) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    value = {"mean": 1.0, "ci_low": 0.0, "ci_high": 2.0}
    row = {"method": "ldcq", "return": value, "first_hit": None, "success": None, "episodes": 3}
    console.print(score_table([row], normalised))
    shown = console.export_text()
    assert shown.startswith(title)
    assert "1.0  [0.0, 2.0]" in shown


def test_the_table_names_success_where_that_is_the_score() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    value = {"mean": 1.0, "ci_low": 0.0, "ci_high": 2.0}
    row = {"method": "ldcq", "return": value, "first_hit": None, "success": 0.25, "episodes": 4}
    row["success_score"] = {"mean": 25.0, "ci_low": 0.0, "ci_high": 75.0}
    nothing = {**row, "method": "behaviour", "success": None, "success_score": None}
    console.print(score_table([row, nothing], normalised=False))
    shown = console.export_text()
    title = "Score: success, % of episodes, mean [interval over episodes]"
    assert shown.startswith(title)
    assert "25.0  [0.0, 75.0]" in shown
    assert "success %" in shown


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found: expected a YAML file or a preset (demo, paper, small)"),
        (b"a: [1\nb: }", "not valid YAML"),
        (b"- 1\n- 2\n", "expected keys and values, got list"),
        (b"\xff\xfe\x00\xc4", "expected a YAML file in UTF-8"),
        (b"base: nowhere\n", "configuration 'nowhere' not found"),
    ],
)
def test_a_file_that_is_no_configuration(
    refused: Refused, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    assert message in refused("run", path, "--store", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for store in (tmp_path / "file", "/proc/ldcq"):
        assert f"store {store} is not writable" in refused("run", TINY, "--store", store)
    assert "expected a folder, s3://BUCKET" in refused("run", TINY, "--store", "ftp://bucket")


@pytest.mark.parametrize(
    "command", [["evaluate", TINY], ["train", "prior", TINY], ["train", "critic", TINY], ["status"]]
)
def test_a_store_that_is_not_there_is_not_made(
    refused: Refused, tmp_path: Path, command: list[str | Path]
) -> None:
    message = refused(*command, "--store", tmp_path / "none")
    assert "no such store; `ldcq run" in message
    assert message == refused("diagnose", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_stage_whose_parents_are_missing_says_which(refused: Refused, tmp_path: Path) -> None:
    assert "needs the vae of 'main'" in refused("train", "critic", TINY, "--store", tmp_path)
    assert "found none" in refused("evaluate", TINY, "--store", tmp_path)
    publish_vae(tmp_path)
    assert "needs the latents of 'main'" in refused("train", "prior", TINY, "--store", tmp_path)
    other = refused("train", "prior", TINY, "--store", tmp_path, "--set", "vae.epochs=9")
    assert "needs the vae of 'main' made with this configuration, found one made with" in other
    assert not (tmp_path / "run").exists()


def test_a_damaged_parent_is_named_with_what_to_do(refused: Refused, tmp_path: Path) -> None:
    weights = tmp_path / "artifacts" / "vae" / publish_vae(tmp_path) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    message = refused("train", "prior", TINY, "--store", tmp_path)
    assert f"{weights} is damaged or cut short" in message
    assert f"delete the folder {weights.parent} and start the vae stage again" in message


@pytest.mark.parametrize("content", ["{", "null", "[1]", '[{"name": "vae"}]'])
def test_a_damaged_record_of_processes_is_named(
    refused: Refused, tmp_path: Path, content: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "processes.json").write_text(content)
    message = refused("status", "--store", tmp_path)
    assert f"{tmp_path}/run/processes.json is no list of a run's processes" in message


def test_impossible_numbers_of_a_command_line(refused: Refused, tmp_path: Path) -> None:
    pointmaze = refused("data", "pointmaze", "--noise", "inf", "--store", tmp_path)
    assert "data.generate.noise: got inf" in pointmaze
    assert "data.dataset: got ''" in refused("data", "inspect", "", "--store", tmp_path)


def test_an_unknown_variant(refused: Refused, tmp_path: Path) -> None:
    message = refused("train", "critic", TINY, "--store", tmp_path, "--variant", "nope")
    assert "variant: 'nope' is not defined; expected one of main, bcq_h" in message


def test_serving_a_store_that_was_never_run(refused: Refused, tmp_path: Path) -> None:
    message = refused("serve", "prior", "--store", tmp_path / "none")
    assert "holds no run: name a CONFIG" in message
    assert not (tmp_path / "none").exists()


def test_serving_where_nothing_can_listen(refused: Refused, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        message = refused("serve", "prior", TINY, "--store", tmp_path, "--listen", taken)
    assert f"cannot listen on {taken}: the port is in use" in message
    assert "add_port" not in message  # gRPC's own account of it
    message = refused("serve", "prior", TINY, "--store", tmp_path, "--listen", "here")
    assert "expected HOST:PORT" in message


def test_a_target_that_is_no_address(refused: Refused, tmp_path: Path) -> None:
    assert "expected HOST:PORT" in refused("conformance", "prior", "nowhere")
    message = refused("serve", "actor", TINY, "--store", tmp_path, "--prior", "main=")
    assert "expected [VARIANT=]TARGET" in message
    message = refused("serve", "actor", TINY, "--store", tmp_path, "--prior", "bcq_h=nowhere")
    assert "target: got 'nowhere', expected HOST:PORT" in message


def test_data_that_cannot_be_used(refused: Refused, tmp_path: Path) -> None:
    assert "data.dataset: no 'no/such-v0'" in refused(
        "data", "inspect", "no/such-v0", "--store", tmp_path
    )
    path = write_hdf5(tmp_path / "nan.hdf5", broken="actions")
    message = refused("data", "inspect", path, "--store", tmp_path)
    assert re.search(r"actions are not finite at episode 1, step 3 \(\[.*nan.*\]\)", message)
    whole = write_hdf5(tmp_path / "short.hdf5")
    message = refused("data", "inspect", whole, "--store", tmp_path, "--horizon", "11")
    assert "all 2 episodes are shorter than the horizon of 11 steps" in message


def publish_vae(root: Path) -> str:
    """A VAE with the right settings; what it computes is of no matter here."""
    parents = {"dataset": "0" * 16}
    spec = stage_spec(load(TINY), "vae", parents)
    meta = Meta(kind="vae", spec=spec, parents=parents)
    return Store(root).publish(meta, {"w": np.zeros(8, np.float32)}, "")


def write_hdf5(path: Path, broken: str = "") -> Path:
    """Two episodes of ten steps; with NaN in one array at the second one's step 3."""
    import h5py

    ends = np.arange(20) % 10 == 9
    arrays = {
        "observations": np.zeros((20, 3), np.float32),
        "actions": np.zeros((20, 2), np.float32),
        "rewards": np.zeros(20, np.float32),
        "terminals": np.zeros(20, np.bool_),
        "timeouts": ends,
        "next_observations": np.zeros((20, 3), np.float32),
    }
    if broken:
        arrays[broken][13] = np.nan
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def test_modules_of_the_folder_where_it_is_started_are_found_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration may name a function of one; none hides a package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["ldcq", "config", "demo"])
    with pytest.raises(SystemExit):
        main()
    assert sys.path[-1] == str(tmp_path)
