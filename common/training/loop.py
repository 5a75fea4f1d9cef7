"""The training loop of all stages: resume, update, log, report, checkpoint."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.training.checkpoints import CheckpointError, Checkpoints
from common.training.logs import MetricLog
from ldcq.config import TrainingConfig
from ldcq.learning.distributed import ranks
from ldcq.learning.learner import Learner, Stopped

if TYPE_CHECKING:
    from common.rpc.stage import Progress

_LOGGER = logging.getLogger(__name__)

REPORT_SECONDS = 0.3


class DivergedError(RuntimeError):
    """A loss became NaN or infinite."""


def train(
    learner: Learner,
    *,
    stage: str,
    total: int,
    checkpoints: Checkpoints,
    progress: Progress,
    config: TrainingConfig,
    logs: Path,
    stop: threading.Event | None = None,
) -> None:
    """Trains to `total` updates, from the last checkpoint if there is one.

    A process killed at any point and started again ends with the same weights as one that was not,
    bit for bit on a CPU: all state, the global random state included, is saved together, and
    metrics are logged before it. Of several ranks the first alone logs, validates and saves.

    Args:
        learner: What is trained.
        stage: Its name, as its section of the configuration is called.
        total: Updates in all.
        checkpoints: Where to resume from and save to.
        progress: Told where the loop stands, a few times a second.
        config: How often to log, validate and save.
        logs: Folder of its logs; `metrics.csv` and TensorBoard events are written there.
        stop: Set to ask for an orderly end.

    Raises:
        Stopped: `stop` was set; a checkpoint was saved.
        DivergedError: A loss became NaN or infinite.
        CheckpointError: The last checkpoint does not fit the learner, or one cannot be saved.
    """
    done = _resume(learner, checkpoints, stage)
    reported = -math.inf
    progress.running(done, total, {})
    together = ranks()
    with MetricLog(logs, after=done) if together.first else nullcontext() as log:
        while done < total:
            # All ranks stop after the same step, or one would wait for the others' gradients.
            if together.any(stop is not None and stop.is_set()):
                if log is not None:
                    _save(learner, checkpoints, log, done)
                raise Stopped(f"{stage}: stopped after {done} of {total} steps; checkpoint saved")
            metrics = learner.update(done)
            done += 1
            last = done == total
            logged, saved, validated = (
                last or done % each == 0
                for each in (config.log_every, config.checkpoint_every, config.validate_every)
            )
            now = time.monotonic()
            # Reading a metric waits for the device, hence only when somebody sees it.
            if logged or saved or now - reported > REPORT_SECONDS:
                values = _numbers(metrics)
                _check(stage, done, values)
                progress.running(done, total, values)
                reported = now
                if logged and log is not None:
                    log.write(done, values)
            if log is None:
                continue
            if validated:
                found = {f"validation/{k}": v for k, v in _numbers(learner.validate()).items()}
                log.write(done, found)
            if saved:
                _save(learner, checkpoints, log, done)


def _resume(learner: Learner, checkpoints: Checkpoints, stage: str) -> int:
    found = checkpoints.latest()
    if found is None:
        return 0
    step, state = found
    try:
        learner.load_state_dict(state["learner"])
        torch.set_rng_state(state["random"]["cpu"])
        if torch.cuda.is_available() and state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{stage}: the checkpoint of step {step} in {checkpoints.folder} does not fit this "
            f"program ({error}); delete that folder to train from the start"
        ) from error
    _LOGGER.info("%s: resuming after %d steps from %s", stage, step, checkpoints.folder)
    return step


def _save(learner: Learner, checkpoints: Checkpoints, log: MetricLog, done: int) -> None:
    log.flush()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random = {"cpu": torch.get_rng_state(), "cuda": cuda}
    checkpoints.save(done, {"learner": learner.state_dict(), "random": random})


def _numbers(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _check(stage: str, done: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if "loss" in name and not math.isfinite(value):
            raise DivergedError(
                f"{stage}: {name} is {value} after {done} steps; lower {stage}.learning_rate, "
                "or look for extreme values in the data"
            )
