"""The stage: dataset to VAE to latents; what is there already is not made again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from common.config import dump
from common.data import Windows, make_windows
from common.data.loading import ensure_dataset, load_episodes
from common.rpc.settings import ServiceSettings
from common.store import Meta, find_latents, owning_variant, stage_spec
from common.training import Checkpoints, configure_torch, train
from common.training.context import StageContext
from common.training.process import train_process
from services.vae.export import write_latents
from services.vae.learner import VaeLearner
from services.vae.model import Vae

STAGE = "vae"
_LOGGER = logging.getLogger(__name__)


def run(context: StageContext) -> str:
    """Trains and publishes the VAE, then the latents of every window.

    A VAE with the same specification is not trained again, latents of the same VAE are not written
    again; a stage that was interrupted goes on where it was.

    Args:
        context: Configuration, store and where to report.

    Returns:
        The VAE's version.

    Raises:
        DataError: The dataset is not there or cannot be used.
        StoreError: The store does not take it, or another process is writing the same latents.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    windows = _windows(context)
    version, trained = _vae(context, windows)
    written = _latents(context, windows, version)
    context.progress.published(version, reused=not (trained or written))
    return version


def main(settings: ServiceSettings, on_start: Callable[[str], None] = lambda _: None) -> int:
    """Trains, with `StageService` answering meanwhile, and ends.

    Args:
        settings: Where to listen and the store.
        on_start: Told the address bound.

    Returns:
        The process's exit code: 0 published, 1 failed, 143 or 130 stopped by a signal.

    Raises:
        ServerError: The address cannot be bound.
    """
    return train_process(STAGE, run, settings, on_start)


def _windows(context: StageContext) -> Windows:
    config, root = context.config, context.store.root

    def generated(done: int, total: int) -> None:
        context.progress.running(done, total, {}, "generating the dataset")

    if config.data.generate is not None and ensure_dataset(config.data, root, generated):
        _LOGGER.info("generated %s", config.data.dataset)
    episodes = load_episodes(config.data, root)
    return make_windows(episodes, config.horizon, config.data.validation_fraction, config.seed)


def _vae(context: StageContext, windows: Windows) -> tuple[str, bool]:
    """The VAE's version, and whether it had to be trained."""
    config, store = context.config, context.store
    owner = owning_variant(context.base, context.variant, "vae")
    parents = {"dataset": windows.episodes.fingerprint}
    spec = stage_spec(config, "vae", parents)
    found = store.find("vae", spec)
    if found is not None:
        store.point("vae", found, owner)
        _LOGGER.info("vae %s is there already", found)
        return found, False
    device = configure_torch(config)
    learner = VaeLearner(config, windows, device)
    checkpoints = Checkpoints(store.root, STAGE, spec, config.training.keep_checkpoints)
    train(
        learner,
        # Variants may train side by side, each with logs of its own.
        stage=STAGE if owner == context.base.variant else f"{STAGE}-{owner}",
        total=learner.total,
        checkpoints=checkpoints,
        progress=context.progress,
        config=config.training,
        logs=store.root / "logs",
        stop=context.stop,
    )
    architecture = learner.vae.architecture
    meta = Meta(
        kind="vae",
        implementation=architecture.encoder,
        spec=spec,
        parents=parents,
        dimensions=architecture.dimensions(),
        details=architecture.details(),
    )
    return store.publish(meta, learner.vae.tensors(), dump(config), owner), True


def _latents(context: StageContext, windows: Windows, vae_version: str) -> bool:
    """Whether the latents had to be written."""
    config, store = context.config, context.store
    owner = owning_variant(context.base, context.variant, "latents")
    parents = {"vae": vae_version, "dataset": windows.episodes.fingerprint}
    spec = stage_spec(config, "latents", parents)
    found = find_latents(store, spec)
    if found is not None:
        store.point("latents", found, owner)
        return False
    device = configure_torch(config)
    artifact = store.load("vae", vae_version)
    meta = Meta(
        kind="latents", spec=spec, parents=parents, dimensions=dict(artifact.meta.dimensions)
    )

    def written(done: int, total: int) -> None:
        context.progress.running(done, total, {}, "writing latents")

    write_latents(
        store,
        meta,
        Vae.from_artifact(artifact, device),
        windows,
        config.discount,
        variant=owner,
        on_progress=written,
        stop=context.stop,
    )
    return True
