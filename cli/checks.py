"""What a run is refused for before its first process is started."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from common.data import (
    NoEnvironmentError,
    check_rewards,
    is_on_this_machine,
    load_task,
    open_dataset,
)
from common.data.task import EnvironmentFactory
from ldcq.config import Config, resolve_variant
from ldcq.policies.costs import check_costs


def check_priors(config: Config, needed: Iterable[str] = ()) -> None:
    """Refuses settings that only a prior's implementation knows, in all variants. Where torch is
    not installed, which they need, nothing is looked at.

    Args:
        config: The configuration.
        needed: Variants whose prior must be installed here.

    Raises:
        ConfigError: A setting cannot be.
        UnknownPriorError: A needed prior is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        return
    from ldcq import registry  # brings torch, which other commands do without

    for variant in needed:
        registry.find_prior(resolve_variant(config, variant).prior.implementation)
    registry.check_priors(config)


def check_task(config: Config, store_root: Path) -> None:
    """Refuses what cannot be evaluated, or learned for what is evaluated. Of data that are not on
    this machine yet, only the environment can be looked at, where it has an id.

    Raises:
        OtherGoalsError: The rewards of a dataset belong to other goals than the evaluated one.
        DataError: As `load_task`; or the data are neither here, nor downloaded or generated.
        ConfigError: As `load_task`; or the cost that a plan is judged by cannot be had.
    """
    check_costs(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the actor's log has those of the environment
        _check_environments(config, store_root)
    data = config.data
    made_here = data.generate is not None or (data.download and not data.is_file)
    if not made_here and not (store_root / "artifacts" / "vae").is_dir():  # models need no data
        open_dataset(data, store_root, config.frames)


def _check_environments(config: Config, store_root: Path) -> None:
    wanted, plays = config.evaluation.environment, bool(config.evaluation.methods)
    here = is_on_this_machine(config.data, store_root)
    if plays and here:
        with suppress(NoEnvironmentError):  # then models are trained, and nothing is scored
            load_task(config, store_root)
    elif plays and wanted.id is not None:
        keys, frames = config.data.observation_keys, config.frames
        EnvironmentFactory(None, wanted, keys, frames)().close()
    for variant in (config.variant, *config.variants):
        own = resolve_variant(config, variant)
        learned = own.data.generate is None and is_on_this_machine(own.data, store_root)
        if learned and not (plays and own.data == config.data):
            check_rewards(own, store_root)
