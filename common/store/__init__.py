"""The shared store: immutable artifacts, latents, candidate caches.

May import `ldcq.config` and `ldcq.data`; no torch, no rpc.
"""

from common.store.artifacts import Store
from common.store.candidates import CandidateCache
from common.store.errors import (
    CorruptArtifactError,
    LineageError,
    MissingArtifactError,
    StoreError,
)
from common.store.follow import Follower
from common.store.latent_writer import LatentWriter
from common.store.latents import open_latents
from common.store.lineage import digest, owning_variant, stage_sections, stage_spec
from common.store.made import NotMadeError, made, made_from
from common.store.meta import Artifact, Meta
from common.store.place import is_remote, local_root
from common.store.rows import Room

__all__ = [
    "Artifact",
    "CandidateCache",
    "CorruptArtifactError",
    "Follower",
    "LatentWriter",
    "LineageError",
    "Meta",
    "MissingArtifactError",
    "NotMadeError",
    "Room",
    "Store",
    "StoreError",
    "digest",
    "is_remote",
    "local_root",
    "made",
    "made_from",
    "open_latents",
    "owning_variant",
    "stage_sections",
    "stage_spec",
]
