"""The stage: dataset to a published network of behaviour cloning."""

from __future__ import annotations

from functools import partial

from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.bc import Bc, BcLearner
from ldcq.data.windows import Windows
from services.vae.data import stage_windows

STAGE = Bc.kind


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the network, unless it is there already.

    Returns:
        The network's version.

    Raises:
        DataError: The dataset is not there or cannot be used.
        StoreError: The store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    steps, parents = stage_windows(context, 1)
    return run_once(context, STAGE, parents, lambda making: _train(making, steps))


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making, steps: Windows) -> str:
    config = making.context.config
    learner = BcLearner(config, steps, configure_torch(config))
    making.train(learner, learner.total)
    return making.publish(learner.policy)
