"""What an artifact says about itself, and how its version is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from common.store.errors import CorruptArtifactError, MissingArtifactError
from common.store.place import META, Place


class Meta(BaseModel):
    """Everything but the tensors: with both, an artifact can be served without a configuration.

    Attributes:
        kind: A key of `STAGES`.
        implementation: The prior's or the encoder's name; empty where there is one only.
        spec: What decided the result, from `stage_spec`.
        parents: Lineage: the dataset's fingerprint and the versions it was made from, by kind.
        dimensions: Of a model, as `ldcq.nn.model.Dimensions` has them.
        details: Of a model, its section of the configuration; of an evaluation, its rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    implementation: str = ""
    spec: dict[str, JsonValue] = {}
    parents: dict[str, str] = {}
    dimensions: dict[str, int] = {}
    details: dict[str, JsonValue] = {}


@dataclass(frozen=True)
class Artifact:
    """One immutable result.

    Attributes:
        version: Digest of the content, 16 hexadecimal digits.
        meta: What it is.
        tensors: Its weights by name.
    """

    version: str
    meta: Meta
    tensors: dict[str, np.ndarray]


def canonical(value: JsonValue) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises:
        ValueError: It holds NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(value: JsonValue) -> str:
    """SHA-256 of the canonical JSON, the first 16 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()[:16]


def meta_bytes(meta: Meta) -> bytes:
    """The canonical bytes of a meta, as stored in `meta.json` and as hashed."""
    return canonical(meta.model_dump(mode="json"))


def content_version(meta: Meta, tensors: Mapping[str, np.ndarray]) -> str:
    """An artifact's version: a digest of its meta and its tensors (name, type, shape, bytes)."""
    state = hashlib.sha256(meta_bytes(meta))
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        state.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        state.update(array.tobytes())
    return state.hexdigest()[:16]


def read_meta(place: Place, folder: str) -> Meta:
    """Reads `meta.json` of a published folder.

    Raises:
        MissingArtifactError: There is none.
        CorruptArtifactError: It cannot be read as a meta.
    """
    path = f"{folder}/{META}"
    content = place.read(path)
    if content is None:
        *_, kind, version = folder.split("/")
        raise MissingArtifactError(f"{kind} {version} is not in the store: no {place.where(path)}")
    try:
        return Meta.model_validate_json(content)
    except ValidationError as error:
        raise CorruptArtifactError(
            f"{place.where(path)} is damaged ({error.errors()[0]['msg']}); "
            f"delete the folder {place.where(folder)} and start its stage again"
        ) from error
