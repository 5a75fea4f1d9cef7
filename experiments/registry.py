"""The experiments by name, and how one is run from start to end."""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args

import torch

from common.stages import STAGES
from common.store import Store, digest
from common.store.files import replace_atomically
from experiments.configurations import configuration
from experiments.experiment import Context, Experiment, Pipeline, Result, Scale
from experiments.page import write
from experiments.peers import with_peers
from ldcq.config import ConfigError

MODULES = {
    "maze2d": "experiments.maze2d",
    "door-human": "experiments.door_human",
    "horizon": "experiments.horizon",
    "steps": "experiments.steps",
    "random-walk": "experiments.random_walk",
    "latents": "experiments.latents",
    "world-model": "experiments.world_model",
}
"""The module of each experiment, which offers an `EXPERIMENT`; in the order of `make results`."""

T = TypeVar("T")


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    if name not in MODULES:
        raise ConfigError(f"experiment: got {name!r}, expected one of {', '.join(MODULES)}")
    # Imported when asked for: each brings the services' parts that it measures with.
    experiment = importlib.import_module(MODULES[name]).EXPERIMENT
    assert isinstance(experiment, Experiment)
    return experiment


def perform(
    name: str,
    *,
    scale: str,
    seeds: int | None,
    dataset: str | None,
    folder: Path,
    pipeline: Pipeline,
    store: Store,
    third_party: Path | None = None,
) -> Result:
    """Runs an experiment and writes its results into a folder.

    Args:
        name: Its name.
        scale: smoke, small or full.
        seeds: Number of training seeds; None: the experiment's own.
        dataset: Dataset to use instead of its own.
        folder: Where results go; peers' rows are taken from `peers/<name>.json` beside it.
        pipeline: Runs configurations on `store`.
        store: Experiments that share it share what they train.
        third_party: Folder of data of third parties.

    Raises:
        ConfigError: No such experiment or scale, or it takes no other dataset.
        Exception: Whatever a pipeline raises.
    """
    experiment = find(name)
    known = _scale(scale)
    if dataset is not None and not experiment.takes_dataset:
        raise ConfigError(
            f"--dataset {dataset}: {name} makes its own data; run it without --dataset"
        )
    count = experiment.seeds[known] if seeds is None else seeds
    if count < 1:
        raise ConfigError(f"--seeds {count}: expected at least 1")
    config = configuration(experiment.settings or name, known, dataset, experiment.methods)
    context = Context(config, known, tuple(range(count)), dataset, store, pipeline, third_party)
    command = f"ldcq experiment {name} --scale {known} --seeds {count}"
    command += f" --dataset {dataset}" if dataset else ""
    findings, seconds = _timed(store, command, lambda: experiment.run(context))
    result = Result(
        experiment,
        command,
        known,
        config.data.dataset,
        context.seeds,
        with_peers(findings, folder.parent / "peers" / f"{name}.json", config),
        wall_seconds=seconds,
        hardware=_hardware(),
        confidence=config.evaluation.confidence,
        shared_store=not store.root.is_relative_to(folder.absolute()),
    )
    write(result, folder)
    return result


def _scale(text: str) -> Scale:
    scales: tuple[Scale, ...] = get_args(Scale)
    for scale in scales:
        if scale == text:
            return scale
    raise ConfigError(f"--scale {text}: expected one of {', '.join(scales)}")


def _timed(store: Store, command: str, run: Callable[[], T]) -> tuple[T, float]:
    """What a command comes to, and its seconds with those of the interrupted calls before it.

    A call after a complete one that makes nothing new takes no time of its own; one that does
    starts from nothing. A process killed outright takes its time with it.
    """
    path = store.root / "timings" / "experiment" / f"{digest(command)}.json"
    try:
        content = json.loads(path.read_text())
        before, complete = float(content["seconds"]), bool(content["complete"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        before, complete = 0.0, False
    held, started, done = _made(store), time.monotonic(), False
    try:
        result = run()
        done = True
    finally:
        seconds = time.monotonic() - started + (0.0 if complete else before)
        if complete and done and _made(store) == held:
            seconds = before
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"seconds": seconds, "complete": done, "command": command}
        replace_atomically(path, json.dumps(content).encode())
    return result, seconds


def _made(store: Store) -> dict[str, list[str]]:
    return {kind: store.versions(kind) for kind in STAGES}


def _hardware() -> str:
    """What was computed on, without saying where: cores, architecture, GPU, torch."""
    cores = len(os.sched_getaffinity(0))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} CPU cores ({platform.machine()}), {gpu}, torch {torch.__version__}"
