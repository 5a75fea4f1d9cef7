"""The stage: latents to a published prior, whichever implementation the configuration names."""

from __future__ import annotations

from functools import partial

from common.store import open_latents
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.learning.distributed import ranks
from ldcq.prior_learner import PriorLearner
from ldcq.registry import check_priors, find_prior
from services.prior.adoption import adopt, foreign_target

STAGE = "prior"


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the prior, unless it is there already. One that is not
    installed but served, by the context's `prior_targets`, is adopted: see
    `services.prior.adoption`.

    Returns:
        The prior's version.

    Raises:
        UnknownPriorError: `prior.implementation` is not registered.
        ConfigError: It cannot do what is asked of it, in training or by who samples it.
        LineageError: The latents are another VAE's.
        StoreError: The latents are damaged, or the store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
        RpcError: The service to adopt is not the configured prior.
    """
    if foreign_target(context) is not None:
        return adopt(context)
    # Before anything is waited for: an unknown name would not become known meanwhile.
    find_prior(context.config.prior.implementation)
    check_priors(context.base)
    parents = ranks().agree(lambda: context.wait_for_parents(STAGE))
    return run_once(context, STAGE, parents, _train)


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
