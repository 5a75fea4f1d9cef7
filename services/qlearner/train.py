"""The critic's stage: from latents and a served prior to a published critic."""

from __future__ import annotations

from functools import partial

from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.config import ConfigError
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.replay import PrioritisedReplay
from services.qlearner.preparation import (
    candidate_source,
    candidates_prior,
    chosen_windows,
    validation_batch,
)

STAGE = "critic"


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the critic, unless it is there already.

    Args:
        context: Its `prior_targets` must say where the prior that this variant uses is drawn from.

    Returns:
        The critic's version.

    Raises:
        ConfigError: No address of the prior service was given, one update needs more latents than
            the prior gives per call, or the prior is conditioned on goals.
        LineageError: The latents are another VAE's.
        ModelVersionError: The service answered with another prior than the store's.
        PriorUnavailableError: The prior service stayed away; the last checkpoint is there to
            resume from.
        Stopped: The process was asked to end; it can be resumed.
    """
    if context.config.prior.goal_conditioned:
        raise ConfigError(
            "prior.goal_conditioned is true, expected false for a critic, whose targets are over "
            "what a state supports, whatever the goal; take one sample (policy `ldgc`), or the "
            "best by the world model (`ldcp`)"
        )
    parents = context.wait_for_parents(STAGE)
    return run_once(context, STAGE, parents, _train)


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making) -> str:
    context, parents, config = making.context, making.parents, making.context.config
    windows, held_out = chosen_windows(context, parents, configure_torch(config))
    replay = PrioritisedReplay(config.critic.replay, len(windows))
    with candidates_prior(context, parents["prior"]) as prior:
        validation = validation_batch(context, prior, windows, held_out)
        source = candidate_source(
            context, prior, parents["prior"], parents["latents"], windows, replay
        )
        learner = LDCQ(config, windows, replay, source, validation)
        making.train(learner, learner.iterations)
    return making.publish(learner.critic)
