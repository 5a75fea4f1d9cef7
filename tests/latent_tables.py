"""Latent tables made up by tests, published as the vae stage publishes its own."""

from __future__ import annotations

import numpy as np

from common.store import LatentWriter, Meta, Store
from ldcq.data.latents import LatentTable


def publish_table(store: Store, meta: Meta, table: LatentTable) -> str:
    """Publishes the columns of `table` as latents that say `meta` of themselves."""
    columns: dict[str, np.ndarray] = vars(table)
    shapes = {name: (array.dtype, array.shape[1:]) for name, array in columns.items()}
    with LatentWriter(store, meta, len(table), shapes) as writer:
        writer.write(0, **columns)
        return writer.publish()
