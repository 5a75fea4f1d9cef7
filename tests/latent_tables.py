"""Latent tables made up by tests, published as the vae stage publishes its own."""

from __future__ import annotations

from common.store import LatentWriter, Meta, Store
from ldcq.data.latents import LatentTable


def publish_table(store: Store, meta: Meta, table: LatentTable) -> str:
    """Publishes the columns of `table` as latents that say `meta` of themselves."""
    shapes = {name: (array.dtype, array.shape[1:]) for name, array in table.columns.items()}
    with LatentWriter(store, meta, len(table), shapes) as writer:
        writer.write(0, **table.columns)
        return writer.publish()
