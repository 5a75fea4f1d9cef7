"""The stage: latents to a published prior, whichever implementation the configuration names."""

from __future__ import annotations

from functools import partial

from common.store import open_latents, owning_variant
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.config import Config, resolve_variant
from ldcq.learning.distributed import ranks
from ldcq.prior_learner import PriorLearner
from ldcq.registry import find_prior
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
    implementation = find_prior(context.config.prior.implementation)
    for config in _users(context):
        implementation.check(config)
    parents = ranks().agree(lambda: context.wait_for_parents(STAGE))
    return run_once(context, STAGE, parents, _train)


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _users(context: StageContext) -> list[Config]:
    """Those of all variants that share this prior: each samples it in its own way."""
    base, variants = context.base, (context.base.variant, *context.base.variants)
    owners = {variant: owning_variant(base, variant, STAGE) for variant in variants}
    own = owners[context.variant]
    return [resolve_variant(base, variant) for variant in variants if owners[variant] == own]


def _train(making: Making) -> str:
    config = making.context.config
    version, vae = making.parents["latents"], making.parents["vae"]
    store = making.context.store
    table = open_latents(store, version, vae_version=vae, memory=config.training.memory)
    learner = PriorLearner(config, table, configure_torch(config))
    making.train(learner, learner.total)
    return making.publish(learner.published, config.prior.implementation)
