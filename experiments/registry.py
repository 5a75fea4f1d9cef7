"""The experiments by name, and how one is run from start to end."""

from __future__ import annotations

import importlib
from pathlib import Path

from common.stages import STAGES
from common.store import Store
from experiments.configurations import configuration
from experiments.experiment import Context, Experiment, Pipeline
from experiments.page import write
from experiments.result import Result, Scale, hardware
from experiments.wall import wall_clock
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

SCALES: tuple[Scale, ...] = ("smoke", "small", "full")


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
        folder: Where results go.
        pipeline: Runs configurations on `store`.
        store: Where everything trained is and goes; experiments that share it share what they
            train.
        third_party: Folder of data of third parties, where there is one.

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
    numbers = tuple(range(count))
    context = Context(known, numbers, dataset, store, folder, pipeline, third_party)
    command = _command(name, known, numbers, dataset)
    with wall_clock(store, command, lambda: _made(store)) as clock:
        findings = experiment.run(context)
    result = Result(
        name=name,
        title=experiment.title,
        shows=experiment.shows,
        paper=experiment.paper,
        command=command,
        scale=known,
        dataset=dataset or configuration(experiment.settings or name, known).data.dataset,
        seeds=numbers,
        findings=findings,
        wall_seconds=clock.seconds(),
        hardware=hardware(),
        shared_store=not store.root.is_relative_to(folder.absolute()),
    )
    write(result, folder)
    return result


def _scale(text: str) -> Scale:
    for scale in SCALES:
        if scale == text:
            return scale
    raise ConfigError(f"--scale {text}: expected one of {', '.join(SCALES)}")


def _command(name: str, scale: Scale, seeds: tuple[int, ...], dataset: str | None) -> str:
    command = f"ldcq experiment {name} --scale {scale} --seeds {len(seeds)}"
    return command + (f" --dataset {dataset}" if dataset else "")


def _made(store: Store) -> dict[str, list[str]]:
    return {kind: store.versions(kind) for kind in STAGES}
