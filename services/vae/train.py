"""The stage: dataset to VAE to latents; what is there already is not made again."""

from __future__ import annotations

from functools import partial

from common.models import model_of
from common.training import configure_torch
from common.training.context import StageContext
from common.training.making import Making, make_once
from common.training.process import train_process
from ldcq.data.windows import Windows
from ldcq.learning.distributed import ranks
from ldcq.vae.learner import VaeLearner
from ldcq.vae.model import Vae
from services.vae.data import stage_windows
from services.vae.export import write_latents

STAGE = Vae.kind


def run(context: StageContext) -> str:
    """Trains and publishes the VAE, then the latents of every window.

    A VAE with the same specification is not trained again, latents of the same VAE are not written
    again; a stage that was interrupted goes on where it was.

    Returns:
        The VAE's version.

    Raises:
        DataError: The dataset is not there or cannot be used.
        StoreError: The store does not take it, or another process is writing the same latents.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    windows, data = stage_windows(context, context.config.horizon)
    version, trained_before = make_once(
        context, STAGE, data, lambda making: _train(making, windows)
    )
    _, written_before = make_once(
        context, "latents", {"vae": version, **data}, lambda making: _write(making, windows)
    )
    context.progress.published(version, reused=trained_before and written_before)
    return version


main = partial(train_process, STAGE, run)
"""Trains, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _train(making: Making, windows: Windows) -> str:
    config = making.context.config
    learner = VaeLearner(config, windows, configure_torch(config))
    making.train(learner, learner.total)
    return making.publish(learner.vae, config.vae.encoder)


def _write(making: Making, windows: Windows) -> str:
    if not ranks().first:
        return ""
    context = making.context
    artifact = context.store.load("vae", making.parents["vae"])
    vae = model_of(artifact, Vae, configure_torch(context.config))

    def written(done: int, total: int) -> None:
        context.progress.running(done, total, {}, "writing latents")

    return write_latents(
        context.store,
        making.meta(dimensions=artifact.meta.dimensions),
        vae,
        windows,
        context.config.discount,
        context.config.lengths,
        variant=making.owner,
        on_progress=written,
        stop=context.stop,
    )
