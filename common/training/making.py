"""Makes what a stage publishes, unless it is in the store already: find, train, publish."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from common.models import parts_of
from common.store import Meta, made_from, owning_variant, stage_spec
from common.store.timings import Stopwatch
from common.training.checkpoints import Checkpoints
from common.training.context import StageContext
from common.training.loop import train
from ldcq.config import dump
from ldcq.learning.distributed import ranks
from ldcq.learning.learner import Learner
from ldcq.nn.model import Model

_LOGGER = logging.getLogger(__name__)


class Making:
    """The making of one artifact.

    Attributes:
        context: The stage's.
        kind: Of the artifact.
        parents: Fingerprint of the dataset and versions of the artifacts it is made from, by kind.
        spec: What decides it.
        owner: The variant whose it is; others that configure it alike share it.
        updates: To which it was trained; None: it was not trained.
    """

    def __init__(self, context: StageContext, kind: str, parents: Mapping[str, str]) -> None:
        self.context, self.kind, self.parents = context, kind, dict(parents)
        self.spec = stage_spec(context.config, kind, parents)
        self.owner = owning_variant(context.base, context.variant, kind)
        self.updates: int | None = None

    @property
    def logs(self) -> Path:
        """Folder of the training logs; variants train side by side, each with logs of its own."""
        shared = self.owner == self.context.base.variant
        name = self.kind if shared else f"{self.kind}-{self.owner}"
        return self.context.store.root / "logs" / name

    def train(self, learner: Learner, total: int) -> None:
        """Trains to `total` updates, resuming where there is a checkpoint. Raises like `train`."""
        root, config = self.context.store.root, self.context.config.training
        train(
            learner,
            stage=self.kind,
            total=total,
            checkpoints=Checkpoints(root, self.kind, self.spec, config.keep_checkpoints),
            progress=self.context.progress,
            config=config,
            logs=self.logs,
            stop=self.context.stop,
        )
        self.updates = total

    def publish(self, model: Model, implementation: str = "") -> str:
        """Publishes the trained model for the variant that owns it, which `model_of` rebuilds; of
        several kinds of its kind it is that `implementation`.

        Returns:
            The version; nothing where another rank publishes.

        Raises:
            StoreError: The store does not take it.
        """
        origin = {"spec": self.spec, "parents": self.parents}
        return self.publish_artifact(*parts_of(model, implementation=implementation, **origin))

    def publish_artifact(self, meta: Meta, tensors: Mapping[str, np.ndarray]) -> str:
        """Publishes an artifact that may be no model's; as `publish`."""
        if not ranks().first:
            return ""
        return self.context.store.publish(meta, tensors, dump(self.context.config), self.owner)

    def meta(self, **fields: Any) -> Meta:
        """What an artifact that is no model's says about itself: its origin, and other `fields`."""
        return Meta(kind=self.kind, spec=self.spec, parents=self.parents, **fields)


def make_once(
    context: StageContext, kind: str, parents: Mapping[str, str], make: Callable[[Making], str]
) -> tuple[str, bool]:
    """The artifact of this configuration and these parents (see `Making`); made only if it is not
    there. `make` publishes it and returns its version: called on all ranks, the first's counts.

    Returns:
        Its version, and whether it was there already.

    Raises:
        StoreError: What is there cannot be pointed to.
        Exception: Whatever `make` raises.
    """
    making = Making(context, kind, parents)
    together = ranks()
    found = together.agree(
        lambda: made_from(context.store, context.base, context.variant, kind, parents)
    )
    if found is None:
        watch = Stopwatch(context.store, kind, making.spec) if together.first else None
        with watch or nullcontext():
            made = make(making)
            if watch is not None:
                watch.updates = making.updates
        version = together.agree(lambda: made)
        _LOGGER.info("published %s %s", kind, version)
        return version, False
    if together.first:
        context.store.point(kind, found, making.owner)
    _LOGGER.info("%s %s is there already", kind, found)
    return found, True


def run_once(
    context: StageContext, kind: str, parents: Mapping[str, str], make: Callable[[Making], str]
) -> str:
    """`make_once` as all that a stage does: its progress says that the artifact is published.

    Returns:
        The version.
    """
    version, reused = make_once(context, kind, parents, make)
    context.progress.published(version, reused)
    return version
