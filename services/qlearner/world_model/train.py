"""The stage: latents of windows to a published world model."""

from __future__ import annotations

from functools import partial

import numpy as np

from common.store import Room, open_latents
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.critic.transitions import Transitions
from ldcq.learning.distributed import ranks
from ldcq.world_model import WorldModel, WorldModelLearner

STAGE = WorldModel.kind


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the world model, unless it is there already.

    Args:
        context: Configuration, store and where to report.

    Returns:
        The world model's version.

    Raises:
        LineageError: The latents are another VAE's.
        StoreError: The latents are damaged, or the store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    parents = ranks().agree(lambda: context.wait_for_parents(STAGE))
    return run_once(context, STAGE, parents, _train)


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making) -> str:
    context, parents = making.context, making.parents
    config = context.config
    version, memory = parents["latents"], config.training.memory
    table = open_latents(context.store, version, vae_version=parents["vae"], memory=memory)
    room, device = Room(context.store.root, memory), configure_torch(config)
    windows = Transitions.of(table, np.arange(len(table)), device, room)
    learner = WorldModelLearner(config, table, windows)
    del table  # its windows were copied
    making.train(learner, learner.total)
    return making.publish(learner.model)
