"""What the servers of a published prior call it."""

from __future__ import annotations

from common.store.meta import Meta

SERVED = "served"
"""The parent of a prior that was adopted, not trained: the version that its servers announce."""


def served_version(version: str, meta: Meta) -> str:
    """The model version that the servers of a prior announce.

    Args:
        version: The artifact's version.
        meta: Its meta.

    Returns:
        The artifact's own version, or that of the foreign model it stands for.
    """
    return meta.parents.get(SERVED, version)
