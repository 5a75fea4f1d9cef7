"""The stage: dataset with images to an encoder of frames, and to the dataset compressed by it."""

from __future__ import annotations

from functools import partial

from common.models import parts_of
from common.store.meta import content_version
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, run_once
from common.training.process import train_process
from ldcq.config import ConfigError
from ldcq.data.windows import Windows
from ldcq.learning.distributed import ranks
from ldcq.vae.frames import Frames, FramesLearner
from services.vae.compressed import compress
from services.vae.data import raw_windows

STAGE = Frames.kind


def run(context: StageContext) -> str:
    """Trains (or resumes) the encoder, compresses the dataset with it and publishes it, unless it
    is there already.

    Returns:
        The encoder's version.

    Raises:
        ConfigError: The section `frames` is not set.
        DataError: The dataset is not there, cannot be used, or holds no images.
        StoreError: The store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    if context.config.frames is None:
        raise ConfigError("frames is null, expected a section: set frames={} to compress images")
    steps = raw_windows(context, 1)
    parents = {"dataset": steps.episodes.fingerprint}
    return run_once(context, STAGE, parents, lambda making: _train(making, steps))


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making, steps: Windows) -> str:
    config = making.context.config
    learner = FramesLearner(config, steps, configure_torch(config))
    making.train(learner, learner.total)
    meta, tensors = parts_of(learner.model, spec=making.spec, parents=making.parents)
    if ranks().first:  # before it is published: who waits for it is to find the data compressed
        compress(making.context, content_version(meta, tensors), learner.model, steps.episodes)
    return making.publish_artifact(meta, tensors)
