"""A run that is killed, stopped or damaged ends like one that was not."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.rpc.stage import Progress
from common.training import CheckpointError, DivergedError, read_metrics, train
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2
from tests.common.training import toy


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Weights and log of a run nothing happened to."""
    root = tmp_path_factory.mktemp("undisturbed")
    return toy.run_toy(root), (root / "logs/toy/metrics.csv").read_bytes()


def test_killed_anywhere_it_ends_with_the_same_weights_and_log(
    tmp_path: Path, undisturbed: tuple[str, bytes]
) -> None:
    # Before the first checkpoint (7), right after one, between a row of the log and a checkpoint,
    # in the middle of one that is being written.
    kills = [4, 14, 24, 33, 34, 41, 59]
    command = [sys.executable, str(toy.__file__), str(tmp_path), *map(str, kills)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *runs, fingerprint, last = output.splitlines()
    assert len(runs) == len(kills)
    done = 0
    for line, end in zip([*runs, last], [*kills, toy.TOTAL - 1], strict=True):
        steps = [int(step) for step in line.split()]
        # It went on from a checkpoint, the last but the one that the kill may have prevented.
        assert steps[0] % toy.CONFIG.checkpoint_every == 0
        assert done - 2 * toy.CONFIG.checkpoint_every < steps[0] <= done + 1
        assert steps == list(range(steps[0], end + 1))
        done = end
    assert fingerprint == undisturbed[0]
    assert (tmp_path / "logs/toy/metrics.csv").read_bytes() == undisturbed[1]


class StopsAt(toy.ToyLearner):
    """Asks for a stop during one update."""

    def __init__(self, step: int, stop: threading.Event) -> None:
        super().__init__()
        self.step, self.stop = step, stop

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        if step == self.step:
            self.stop.set()
        return super().update(step)


def test_asked_to_stop_it_saves_and_goes_on_from_there(
    tmp_path: Path, undisturbed: tuple[str, bytes]
) -> None:
    stop = threading.Event()
    with pytest.raises(Stopped, match="toy: stopped after 24 of 60 steps; checkpoint saved"):
        toy.run_toy(tmp_path, StopsAt(23, stop), stop)
    found = toy.checkpoints(tmp_path).latest()
    assert found is not None
    assert found[0] == 24
    assert toy.run_toy(tmp_path) == undisturbed[0]
    assert (tmp_path / "logs/toy/metrics.csv").read_bytes() == undisturbed[1]


def test_a_checkpoint_cut_short_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, undisturbed: tuple[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    with pytest.raises(Stopped):
        toy.run_toy(tmp_path, StopsAt(23, stop), stop)
    folder = toy.checkpoints(tmp_path).folder
    assert sorted(path.name for path in folder.iterdir()) == ["21.pt", "24.pt"]
    newest = folder / "24.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert toy.run_toy(tmp_path) == undisturbed[0]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert str(newest) in warnings[0]
    assert (tmp_path / "logs/toy/metrics.csv").read_bytes() == undisturbed[1]


def test_a_finished_run_does_nothing_more(tmp_path: Path, undisturbed: tuple[str, bytes]) -> None:
    assert toy.run_toy(tmp_path) == undisturbed[0]
    stop = threading.Event()
    stop.set()
    assert toy.run_toy(tmp_path, StopsAt(-1, stop), stop) == undisturbed[0]


def test_the_seed_matters(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    learner = toy.ToyLearner()
    torch.manual_seed(99)  # dropout draws from the global state, which the loop saves as well
    assert toy.run_toy(tmp_path, learner) != undisturbed[0]


def test_metrics_are_logged_at_their_steps(tmp_path: Path) -> None:
    toy.run_toy(tmp_path)
    series = read_metrics(tmp_path / "logs/toy/metrics.csv")
    assert set(series) == {"loss", "learning_rate", "validation/loss"}
    assert series["loss"][0].tolist() == list(range(3, 61, 3))
    assert series["validation/loss"][0].tolist() == [10, 20, 30, 40, 50, 60]
    assert series["validation/loss"][1][-1] < series["validation/loss"][1][0]
    events = list((tmp_path / "logs/toy").glob("events.out.tfevents.*"))
    assert len(events) == 1


def test_progress_shows_the_last_step(tmp_path: Path) -> None:
    progress = Progress("toy")
    train(
        toy.ToyLearner(),
        stage="toy",
        total=toy.TOTAL,
        checkpoints=toy.checkpoints(tmp_path),
        progress=progress,
        config=toy.CONFIG,
        logs=tmp_path,
    )
    shown = progress.snapshot()
    assert (shown.state, shown.step, shown.total) == (stage_pb2.STAGE_STATE_RUNNING, 60, 60)
    assert shown.metrics["loss"] > 0


class Diverging(toy.ToyLearner):
    """Its loss becomes NaN at a step that is neither logged nor saved."""

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        metrics = super().update(step)
        return {"loss": float("nan")} if step >= 15 else metrics


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"toy: loss is nan after \d+ steps; lower toy\."):
        toy.run_toy(tmp_path, Diverging())
    found = toy.checkpoints(tmp_path).latest()
    assert found is not None
    assert found[0] == 14


class Larger(toy.ToyLearner):
    """A program that changed since the checkpoint was written."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(4, 2))


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    toy.run_toy(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"toy: the checkpoint of step 60 .* does not fit"
    ) as e:
        toy.run_toy(tmp_path, Larger())
    assert str(toy.checkpoints(tmp_path).folder) in str(e.value)
