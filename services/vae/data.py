"""The windows that a stage over the dataset learns from: the VAE's, and those of one step."""

from __future__ import annotations

import logging

from common.data import check_rewards, ensure_dataset, load_episodes
from common.training.context import StageContext
from ldcq.data.windows import Windows, make_windows
from ldcq.learning.distributed import ranks
from ldcq.vae.frames import Frames
from services.vae.compressed import compressed_episodes, ensure_compressed, recorded

_LOGGER = logging.getLogger(__name__)


def stage_windows(context: StageContext, horizon: int) -> tuple[Windows, dict[str, str]]:
    """The dataset in windows of `horizon` steps, and what is made from them is made from: the
    dataset, and what its images were compressed with, if it has any, by kind.

    Raises:
        DataError: The dataset cannot be had, has no window of that length, or rewards that belong
            to other goals than the evaluated one.
        StoreError: Data that do not fit into memory do not fit onto the disk.
        Stopped: Asked to stop while waiting for images to be compressed.
    """
    config, parents = context.config, {}
    if config.frames is None:
        windows = raw_windows(context, horizon)
    else:
        together, kind = ranks(), Frames.kind
        parents[kind] = together.agree(lambda: context.wait_for(kind))
        together.agree(lambda: ensure_compressed(context, parents[kind]))
        episodes = compressed_episodes(context, parents[kind])
        windows = make_windows(episodes, horizon, config.data.validation_fraction, config.seed)
    return windows, {"dataset": windows.episodes.fingerprint, **parents}


def raw_windows(context: StageContext, horizon: int) -> Windows:
    """Generates the dataset where the configuration says how, reads it, with images as they are,
    and cuts it into windows of `horizon` steps. Raises as `stage_windows`.
    """
    config, root = context.config, context.store.root

    def generated(done: int, total: int) -> None:
        context.progress.running(done, total, {}, "generating the dataset")

    generates = config.data.generate is not None
    if generates and ranks().agree(lambda: ensure_dataset(config.data, root, generated)):
        _LOGGER.info("generated %s", config.data.dataset)
    if not generates:
        check_rewards(config, root)
    episodes = load_episodes(recorded(config), root, config.training.memory, config.frames)
    return make_windows(episodes, horizon, config.data.validation_fraction, config.seed)
