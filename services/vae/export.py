"""Writes what the later stages learn from: every window as one transition in latent space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from common.store import LatentWriter, Meta, Store
from ldcq.data.windows import Windows
from ldcq.learning.learner import Stopped
from ldcq.vae.latents import latent_table
from ldcq.vae.model import Vae

ROWS = 1024
"""Windows encoded at once."""


def write_latents(
    store: Store,
    meta: Meta,
    vae: Vae,
    windows: Windows,
    discount: float,
    lengths: Sequence[int],
    *,
    variant: str,
    on_progress: Callable[[int, int], None],
    stop: threading.Event,
) -> str:
    """Encodes all windows, training and validation alike, and publishes them as one latent table.

    Args:
        store: Where.
        meta: What the table says about itself; names the VAE and the dataset.
        vae: The trained model.
        windows: What is encoded.
        discount: gamma, per environment step.
        lengths: k < H that latents are valued for beside H.
        variant: Whose pointer to set.
        on_progress: Told the windows written and the windows in all.
        stop: Set to give up.

    Raises:
        Stopped: `stop` was set; nothing was published.
        StoreError: Another process writes this table, or the disk does not take it.
    """
    vae.eval()
    one = latent_table(vae, windows, slice(0, 1), discount, lengths)
    kinds = {name: (column.dtype, column.shape[1:]) for name, column in one.columns.items()}
    with LatentWriter(store, meta, len(windows), kinds) as writer:
        for start in range(0, len(windows), ROWS):
            if stop.is_set():
                raise Stopped("asked to stop while writing latents")
            end = min(start + ROWS, len(windows))
            block = latent_table(vae, windows, slice(start, end), discount, lengths)
            writer.write(start, **block.columns)
            on_progress(end, len(windows))
        return writer.publish(variant)
