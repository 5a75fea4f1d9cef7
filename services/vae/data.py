"""The windows that a stage over the dataset learns from: the VAE's, and those of one step."""

from __future__ import annotations

import logging

from common.data import check_rewards, ensure_dataset, load_episodes
from common.training.context import StageContext
from ldcq.data.windows import Windows, make_windows
from ldcq.learning.distributed import ranks

_LOGGER = logging.getLogger(__name__)


def stage_windows(context: StageContext, horizon: int) -> Windows:
    """Generates the dataset where the configuration says how, reads it and cuts it into windows of
    `horizon` steps.

    Raises:
        DataError: The dataset cannot be had, has no window of that length, or rewards that belong
            to other goals than the evaluated one.
        StoreError: Data that do not fit into memory do not fit onto the disk.
    """
    config, root = context.config, context.store.root

    def generated(done: int, total: int) -> None:
        context.progress.running(done, total, {}, "generating the dataset")

    generates = config.data.generate is not None
    if generates and ranks().agree(lambda: ensure_dataset(config.data, root, generated)):
        _LOGGER.info("generated %s", config.data.dataset)
    if not generates:
        check_rewards(config, root)
    episodes = load_episodes(config.data, root, config.training.memory)
    return make_windows(episodes, horizon, config.data.validation_fraction, config.seed)
