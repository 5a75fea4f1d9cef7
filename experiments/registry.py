"""The experiments by name, and how one is run from start to end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import get_args

import torch

from benchmarks.result import machine
from common.stages import STAGES
from common.store import Store
from common.store.timings import Timing, lineage_timings
from experiments import NAMES
from experiments.configurations import configurations, unlike_paper
from experiments.elsewhere import with_elsewhere
from experiments.experiment import Budget, Context, Experiment, Pipeline, Result, Scale
from experiments.page import write
from experiments.peers.rows import with_peers
from ldcq.config import ConfigError

INSTRUCTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that hold torch's libraries to fewer instructions than the CPU has."""


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    if name not in NAMES:
        raise ConfigError(f"experiment: got {name!r}, expected one of {', '.join(NAMES)}")
    # Imported when asked for: each brings the services' parts that it measures with.
    experiment = importlib.import_module(f"experiments.{name.replace('-', '_')}").EXPERIMENT
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
        folder: Where results go; peers' rows are taken from the folder `peers` beside it.
        pipeline: Runs configurations on `store`.
        store: Experiments that share it share what they train.
        third_party: Folder of data of third parties.

    Raises:
        ConfigError: No such experiment or scale, or it takes no other dataset.
        Exception: Whatever a pipeline raises.
    """
    experiment = find(name)
    known = scale_of(scale)
    if dataset is not None and not experiment.takes_dataset:
        raise ConfigError(
            f"--dataset {dataset}: {name} makes its own data; run it without --dataset"
        )
    count = experiment.seeds[known] if seeds is None else seeds
    if count < 1:
        raise ConfigError(f"--seeds {count}: expected at least 1")
    configs = configurations(
        experiment, known, dataset=dataset, store=store.root, third_party=third_party
    )
    context = Context(configs, known, tuple(range(count)), dataset, store, pipeline, third_party)
    config = context.config
    command = f"ldcq experiment {name} --scale {known} --seeds {count}"
    command += f" --dataset {dataset}" if dataset else ""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):  # said before hours of training
        raise ConfigError(f"--out {folder}: {there} is no folder that can be written")
    findings = experiment.run(context)
    played = findings.artifacts.values()
    timings = lineages(store, played)
    others = lineages(store, set(store.versions("evaluation")).difference(played))
    result = Result(
        experiment,
        command,
        known,
        config.data.dataset,
        context.seeds,
        with_elsewhere(
            with_peers(findings, folder.parent, experiment, configs), folder, len(context.seeds)
        ),
        unlike_paper(config, experiment.tasks[0] if experiment.tasks else "paper"),
        seconds=sum(timing.seconds for timing in timings.values()),
        lost=any(timing.lost for timing in timings.values()),
        hardware=_hardware(),
        confidence=config.evaluation.confidence,
        shares_models=bool(timings.keys() & others.keys()),
        budgets=_budgets(store, timings),
    )
    write(result, folder)
    return result


def scale_of(text: str) -> Scale:
    """A scale by its name.

    Raises:
        ConfigError: There is none.
    """
    scales: tuple[Scale, ...] = get_args(Scale)
    for scale in scales:
        if scale == text:
            return scale
    raise ConfigError(f"--scale {text}: expected one of {', '.join(scales)}")


def lineages(store: Store, versions: Iterable[str]) -> dict[tuple[str, str], Timing]:
    """What the making of some artifacts took, and of all that they were made from, by kind and
    version.
    """
    kinds = {version: kind for kind in STAGES for version in store.versions(kind)}
    found: dict[tuple[str, str], Timing] = {}
    for version in versions:
        found |= lineage_timings(store, kinds[version], version)
    return found


def _budgets(store: Store, timings: Mapping[tuple[str, str], Timing]) -> list[Budget]:
    """By stage and implementation, in the order of the pipeline."""
    grouped: dict[str, list[Timing]] = {}
    for kind in STAGES:
        for (of, version), timing in timings.items():
            if of == kind:
                implementation = store.meta(kind, version).implementation
                name = f"{kind}, {implementation}" if implementation else kind
                grouped.setdefault(name, []).append(timing)
    return [_budget(name, of_stage) for name, of_stage in grouped.items()]


def _budget(stage: str, timings: list[Timing]) -> Budget:
    counted = [timing.updates for timing in timings if timing.updates is not None]
    return Budget(
        stage,
        len(timings),
        mean(counted) if counted else None,
        mean(timing.seconds for timing in timings),
    )


def _hardware() -> str:
    """What was computed on, without saying where: kind of CPU and its instructions, GPU, torch."""
    known = machine()
    asked = [f"{name}={os.environ[name]}" for name in INSTRUCTIONS if name in os.environ]
    instructions = ", ".join([torch.backends.cpu.get_cpu_capability(), *asked])
    return (
        f"{known['processor']} ({instructions}), {known['cores']} cores, "
        f"{known.get('gpu', 'no GPU')}, torch {known['torch']}"
    )
