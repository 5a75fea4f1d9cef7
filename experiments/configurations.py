"""The configuration of an experiment at a scale: files in `settings`, and another dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.data import is_on_this_machine, load_task
from common.store import Store
from experiments.experiment import Experiment, Methods, Scalar, Scale
from ldcq.config import Config, ConfigError, PolicyConfig, load, override
from ldcq.registry import find_prior

SETTINGS = Path(__file__).parent / "settings"
POLICIES = {
    "HalfCheetah-v5": "tqc_HalfCheetah-v3.npz",
    "Hopper-v5": "tqc_Hopper-v3.npz",
    "Walker2d-v5": "tqc_Walker2d-v3.npz",
    **{
        f"AdroitHand{name}-v1": f"dapg_policy_{name.lower()}-v0.npz"
        for name in ("Pen", "Hammer", "Door", "Relocate")
    },
}
"""Who plays an environment, in the folder `policies` of the data of third parties."""


def configuration(
    name: str,
    scale: Scale,
    dataset: str | None = None,
    methods: Methods | None = None,
    task: str | None = None,
) -> Config:
    """What an experiment runs at a scale.

    Args:
        name: Of the experiment; its files are `settings/<name>.<scale>.yaml`, and
            `settings/<name>.<word>.<scale>.yaml` with what is other for tasks that begin with it.
        scale: smoke, small or full.
        dataset: A dataset that is there, or can be downloaded, to use instead.
        methods: What is played; None: what the file says.
        task: Which the file changes; None: the file has its own base. But for scale full, its data
            are generated, unless `dataset` is given.

    Raises:
        ConfigError: A file is wrong.
    """
    files: list[str | Path] = [SETTINGS / f"{name}.{scale}.yaml"]
    if task is not None:
        own = SETTINGS / f"{name}.{task.partition('-')[0]}.{scale}.yaml"
        files = [task, *files, *([own] if own.is_file() else ())]
    config = load(files)
    # An experiment draws pictures of its own.
    changes: dict[str, object] = {"evaluation.video": False, "evaluation.report": False}
    if task is not None and scale != "full" and dataset is None:
        made = config.task.generated if config.task else None
        if made is None or made.by is None:
            raise ConfigError(f"task {task}: no data of its kind can be generated")
        changes |= {"data.dataset": made.dataset, "data.generate": made.by.model_dump(mode="json")}
    if dataset is not None:  # of the same task: its states are read alike
        alike = config.data.model_dump(include={"observation_keys", "goal_indices", "reward"})
        changes |= {"data.dataset": dataset, **{f"data.{key}": alike[key] for key in alike}}
    if methods is not None:
        changes["evaluation.methods"] = {name: dict(method) for name, method in methods.items()}
    return override(config, changes)


def third_party_data() -> Path | None:
    """The folder of data of third parties that `LDCQ_THIRD_PARTY_DATA` names; None: it is not set.

    Returns:
        Of policies in `policies`, and of demonstrations.
    """
    folder = os.environ.get("LDCQ_THIRD_PARTY_DATA")
    return Path(folder).expanduser() if folder else None


def configurations(
    experiment: Experiment,
    scale: Scale,
    *,
    dataset: str | None = None,
    store: Path,
    third_party: Path | None = None,
) -> dict[str, Config]:
    """What an experiment runs at a scale, by task; by its own name where it has none.

    Args:
        experiment: The experiment.
        scale: smoke, small or full.
        dataset: A dataset to use instead of its own.
        store: Where generated data are, or go.
        third_party: Folder of data of third parties; a policy that plays data is in `policies`.

    Raises:
        ConfigError: A file is wrong, or data are to be played by a policy that is not there.
    """
    settings = experiment.settings or experiment.name
    found = {}
    for task in experiment.tasks or (None,):
        config = configuration(settings, scale, dataset, experiment.methods, task)
        name = task or experiment.name
        found[name] = _with_policies(name, config, store, third_party)
    return found


def _with_policies(name: str, config: Config, store: Path, third_party: Path | None) -> Config:
    """The configuration with the policies that make its data."""
    made = config.data.generate
    if not isinstance(made, PolicyConfig):
        return config
    file = POLICIES[made.environment]
    path = third_party / "policies" / file if third_party else Path(file)
    if not path.is_file() and not is_on_this_machine(config.data, store):
        raise ConfigError(
            f"{name}: its data are played by a third party's policy, {file}, that is not on this "
            "machine; put it into a folder policies and set LDCQ_THIRD_PARTY_DATA to the folder "
            f"around it (now: {third_party or 'not set'})"
        )
    policies = [{**each.model_dump(mode="json"), "file": str(path)} for each in made.policies]
    return override(config, {"data.generate.policies": policies})


UNTOLD = {"name", "task", "seed", "training", "data.generate.policies"} | {
    f"evaluation.{key}" for key in ("methods", "report", "video")
}
"""Keys that a page has elsewhere, or that decide no result."""


def unlike_paper(config: Config, task: str = "paper") -> dict[str, tuple[Scalar, Scalar]]:
    """Every key whose value differs from that of the preset `paper`, or of a task's own settings,
    which are the paper's, but for those of `UNTOLD`.

    Returns:
        By dotted key, the value and the paper's; None where one has no such key.

    Raises:
        UnknownPriorError: Options are given for a prior that is not installed.
    """
    ours, papers = (dict(_leaves(_tree(each))) for each in (config, load(task)))
    return {
        key: (ours.get(key), papers.get(key))
        for key in dict.fromkeys([*ours, *papers])
        if ours.get(key) != papers.get(key) and not _untold(key)
    }


def _untold(key: str) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in UNTOLD)


def _tree(config: Config) -> dict[str, Any]:
    """The configuration with the options of priors spelled out as well."""
    options = {
        name: find_prior(name).Options.model_validate(given).model_dump(mode="json")
        for name, given in config.prior.options.items()
    }
    tree = config.model_dump(mode="json")
    return {**tree, "prior": {**tree["prior"], "options": options}}


def _leaves(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Scalar]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", json.dumps(value) if isinstance(value, list) else value


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
