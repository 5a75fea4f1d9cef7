"""The configuration of an experiment at a scale: files in `settings`, and another dataset."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from common.data import is_on_this_machine, load_task
from common.store import Store
from experiments.experiment import Methods, Scalar, Scale
from ldcq.config import Config, ConfigError, load, override

SETTINGS = Path(__file__).parent / "settings"


def configuration(
    name: str, scale: Scale, dataset: str | None = None, methods: Methods | None = None
) -> Config:
    """What an experiment runs at a scale.

    Args:
        name: Of the experiment; its files are `settings/<name>.<scale>.yaml`.
        scale: smoke, small or full.
        dataset: A dataset that is there, or can be downloaded, to use instead.
        methods: What is played; None: what the file says.

    Raises:
        ConfigError: A file is wrong.
    """
    changes: dict[str, object] = {}
    if dataset is not None:
        changes |= {"data.dataset": dataset, "data.generate": None}
    if methods is not None:
        changes["evaluation.methods"] = {name: dict(method) for name, method in methods.items()}
    return override(load(SETTINGS / f"{name}.{scale}.yaml"), changes)


def configured(config: Config, *keys: str) -> dict[str, Scalar]:
    """What a configuration says for some of its keys, for the table at a page's end."""
    return {key: attrgetter(key)(config) for key in keys}


def need_dataset(config: Config, store: Store, *, goals: bool = False) -> None:
    """Checks, before anything is trained, that the dataset can be had and has what is needed.

    Args:
        config: What is to be run.
        store: Generated datasets are in it.
        goals: A fixed place to reach is needed, where first hits count.

    Raises:
        ConfigError: It has no such place.
        DataError: It is not on this machine, or records no environment.
    """
    if config.data.generate is not None and not is_on_this_machine(config.data, store.root):
        return
    task = load_task(config, store.root)
    if goals and not task.first_hit:
        raise ConfigError(
            f"--dataset {config.data.dataset}: its environment ends an episode at the goal, moves "
            "the goal, or has none; expected a maze that goes on at a fixed goal (PointMaze with "
            "continuing_task=True, reset_target=False and sparse rewards)"
        )
