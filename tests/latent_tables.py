"""Latent tables made up by tests, published as the vae stage publishes its own."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from common.store import LatentTable, LatentWriter, Meta, Store


def publish_table(store: Store, meta: Meta, table: LatentTable) -> str:
    """Publishes the columns of `table` as latents that say `meta` of themselves."""
    columns: dict[str, np.ndarray] = {
        field.name: getattr(table, field.name)
        for field in fields(LatentTable)
        if field.name not in ("version", "meta")
    }
    shapes = {name: (array.dtype, array.shape[1:]) for name, array in columns.items()}
    with LatentWriter(store, meta, len(table.reward), shapes) as writer:
        writer.write(0, **columns)
        return writer.publish()
