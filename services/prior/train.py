"""The stage: latents to a published prior, whichever implementation the configuration names."""

from __future__ import annotations

from functools import partial

from common.store import open_latents
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, make_once
from common.training.process import train_process
from ldcq.config import ConfigError
from ldcq.learning.distributed import ranks
from ldcq.prior_learner import PriorLearner
from ldcq.registry import find_prior
from services.prior.adoption import adopt, foreign_target

STAGE = "prior"


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the prior, unless it is there already.

    Args:
        context: Configuration, store and where to report. A prior that is not
            installed but served, by its `prior_targets`, is adopted: see `services.prior.adoption`.

    Returns:
        The prior's version.

    Raises:
        UnknownPriorError: `prior.implementation` is not registered.
        ConfigError: It takes no goals, and is to be conditioned on them.
        LineageError: The latents are another VAE's.
        StoreError: The latents are damaged, or the store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
        RpcError: The service to adopt is not the configured prior.
    """
    if foreign_target(context) is not None:
        return adopt(context)
    # Before anything is waited for: an unknown name would not become known meanwhile.
    settings = context.config.prior
    if not find_prior(settings.implementation).takes_goals and settings.goal_conditioned:
        raise ConfigError(
            f"prior.goal_conditioned is true, but the prior {settings.implementation!r} takes no "
            "goals; expected false, or another prior.implementation"
        )
    parents = ranks().agree(lambda: context.wait_for_parents(STAGE))
    version, reused = make_once(context, STAGE, parents, _train)
    context.progress.published(version, reused)
    return version


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making) -> str:
    config = making.context.config
    version, vae = making.parents["latents"], making.parents["vae"]
    store = making.context.store
    table = open_latents(store, version, vae_version=vae, memory=config.training.memory)
    learner = PriorLearner(config, table, configure_torch(config))
    making.train(learner, learner.total)
    return making.publish(learner.published, config.prior.implementation)
