"""What can go wrong with a store; every message says what, where and what to do."""

from __future__ import annotations


class StoreError(RuntimeError):
    """The store cannot do what it was asked."""


class MissingArtifactError(StoreError):
    """What was asked for is not in the store (yet)."""


class CorruptArtifactError(StoreError):
    """What is in the store is not what was published."""


class LineageError(StoreError):
    """Two artifacts that were not made for each other."""
