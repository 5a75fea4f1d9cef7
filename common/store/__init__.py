"""The shared store: immutable artifacts, latents, candidate caches.

May import `ldcq.config` and `ldcq.data`; no torch, no rpc.
"""

from common.store.artifacts import Store as Store
from common.store.candidates import CandidateCache as CandidateCache
from common.store.errors import CorruptArtifactError as CorruptArtifactError
from common.store.errors import LineageError as LineageError
from common.store.errors import MissingArtifactError as MissingArtifactError
from common.store.errors import StoreError as StoreError
from common.store.follow import Follower as Follower
from common.store.latent_writer import LatentWriter as LatentWriter
from common.store.latents import open_latents as open_latents
from common.store.lineage import owning_variant as owning_variant
from common.store.lineage import stage_sections as stage_sections
from common.store.lineage import stage_spec as stage_spec
from common.store.made import NotMadeError as NotMadeError
from common.store.made import made as made
from common.store.made import made_from as made_from
from common.store.made import meant as meant
from common.store.meta import Artifact as Artifact
from common.store.meta import Meta as Meta
from common.store.meta import digest as digest
from common.store.place import is_remote as is_remote
from common.store.place import local_root as local_root
from common.store.rows import Room as Room
