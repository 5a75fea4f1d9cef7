"""Artifacts: immutable folders named by their content, and one pointer per kind and variant."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from common.stages import STAGES
from common.store.errors import CorruptArtifactError, MissingArtifactError, StoreError
from common.store.files import refusal
from common.store.meta import Artifact, Meta, content_version, meta_bytes, read_meta
from common.store.place import META, FolderPlace, Place, beside, is_remote, local_root
from common.store.served import SERVED

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_WEIGHTS = "weights.safetensors"


class Store:
    """A folder, or a prefix of a bucket, shared by all stages and services.

    Readers and writers need no lock: what is published never changes, it appears at once, and the
    pointer `CURRENT` is replaced atomically after it.

    A folder that cannot be written is read all the same: what is made from it, an evaluation for
    example, goes into a folder of this machine (see `beside`) and is found there.

    Attributes:
        url: What other processes open the same store with.
        place: Where artifacts, latents and candidates lie.
        root: The folder of this machine for all else: datasets, checkpoints, logs, reports. It is
            the store's own where that is a folder.
        writable: Whether what is published goes into the store itself.
    """

    def __init__(self, url: str | Path) -> None:
        """Opens a store, a folder or `s3://BUCKET/PREFIX`, creating its folder on this machine.

        Raises:
            StoreError: The folder cannot be created, the bucket cannot be read, or the URL is
                neither.
        """
        own = local_root(url)
        self.writable = not own.is_dir() or os.access(own, os.W_OK | os.X_OK)
        self.root = own if self.writable else beside(own)
        self.url = str(url) if is_remote(url) else str(own)
        self.place: Place = (
            _bucket(self.url)
            if is_remote(url)
            else FolderPlace(self.root, own if self.root != own else None)
        )
        self._metas: dict[tuple[str, str], Meta] = {}  # of `metas`; a meta never changes
        if not self.writable:
            return
        probe = self.root / f".writable-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._not_writable(error.strerror or str(error)) from error

    def check_writable(self) -> None:
        """Raises StoreError where what is published would not go into the store itself."""
        if not self.writable:
            raise self._not_writable("this user may only read it")

    def _not_writable(self, why: str) -> StoreError:
        option = "LDCQ_SCRATCH" if is_remote(self.url) else "--store"
        return StoreError(
            f"store {local_root(self.url)} is not writable: {why}; choose another folder with "
            f"{option}, or give this user the right to write there"
        )

    def key(self, kind: str, version: str = "") -> str:
        """Where in `place` the versions of `kind`, or one of them, lie."""
        _check_name("kind", kind)
        apart = kind in STAGES and STAGES[kind].large
        folder = kind if apart else f"artifacts/{kind}"
        return f"{folder}/{version}" if version else folder

    def where(self, kind: str, version: str = "") -> str:
        """The same, for people."""
        return self.place.where(self.key(kind, version))

    def folder(self, kind: str) -> Path:
        """The same as a path, of a store in a folder.

        Raises:
            StoreError: The store is on S3.
        """
        if is_remote(self.url):
            raise StoreError(f"store {self.url}: expected a store in a folder")
        return self.root / self.key(kind)

    def publish(
        self,
        meta: Meta,
        tensors: Mapping[str, np.ndarray],
        config_yaml: str,
        variant: str = "main",
    ) -> str:
        """Adds an artifact and makes it the current one of its kind and variant.

        Several processes may publish the same content at once: all succeed. The resolved
        configuration is kept for people to read.

        Returns:
            The version, a digest of `meta` and `tensors`.

        Raises:
            StoreError: The disk does not take it, or `meta` holds NaN or infinity.
        """
        arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        try:
            version = content_version(meta, arrays)
        except ValueError as error:
            raise StoreError(f"{meta.kind}: its meta is not JSON: {error}") from error
        final = self.key(meta.kind, version)
        try:
            there = self.place.is_whole(final)
            try:
                self.load(meta.kind, version)
            except StoreError:  # absent, or damaged
                files = {
                    _WEIGHTS: save_tensors(arrays),
                    META: meta_bytes(meta),
                    "config.yaml": config_yaml.encode(),
                }
                self.place.add(final, files, replace=there)
        except OSError as error:
            where = self.place.where(final)
            why = f"cannot publish {meta.kind} {version} at {where}: {refusal(error)}"
            raise StoreError(why) from error
        self.point(meta.kind, version, variant)
        return version

    def current(self, kind: str, variant: str = "main") -> str | None:
        """The version a variant's pointer names, or None before the first publication.

        Raises:
            CorruptArtifactError: The pointer holds something else.
        """
        pointer = self._pointer(kind, variant)
        content = self.place.read(pointer)
        if content is None:
            return None
        version = content.decode(errors="replace").strip()
        if not _NAME.fullmatch(version):
            raise CorruptArtifactError(
                f"{self.place.where(pointer)} holds {version[:40]!r}, expected a version; "
                "delete it and start the stage again"
            )
        return version

    def pointers(self, kind: str) -> dict[str, str]:
        """The current version of a kind by variant, the main one first."""
        names = (name for name in self.place.names(self.key(kind)) if name.startswith("CURRENT"))
        variants = sorted(name.removeprefix("CURRENT").removeprefix(".") for name in names)
        found = {variant or "main": self.current(kind, variant or "main") for variant in variants}
        return {variant: version for variant, version in found.items() if version is not None}

    def point(self, kind: str, version: str, variant: str = "main") -> None:
        """Makes a published version the current one of a variant.

        Raises:
            MissingArtifactError: It has not been published.
        """
        if not self.place.is_whole(self.key(kind, version)):
            raise MissingArtifactError(
                f"cannot point {variant} to {kind} {version}: it is not in {self.where(kind)}"
            )
        if self.current(kind, variant) != version:
            self.place.write(self._pointer(kind, variant), f"{version}\n".encode())

    def _pointer(self, kind: str, variant: str) -> str:
        _check_name("variant", variant)
        return self.key(kind, "CURRENT" if variant == "main" else f"CURRENT.{variant}")

    def load(self, kind: str, version: str) -> Artifact:
        """Reads an artifact and verifies that its content is what its version says.

        Raises:
            MissingArtifactError: It is not in the store.
            CorruptArtifactError: A file is damaged or cut short.
        """
        key, folder = self.key(kind, version), self.where(kind, version)
        meta = read_meta(self.place, key)
        path = self.place.where(f"{key}/{_WEIGHTS}")
        advice = f"delete the folder {folder} and start the {kind} stage again"
        content = self.place.read(f"{key}/{_WEIGHTS}")
        if content is None:
            raise CorruptArtifactError(f"{path} is missing; {advice}")
        try:
            tensors = load_tensors(content)
        except (SafetensorError, ValueError) as error:
            raise CorruptArtifactError(
                f"{path} is damaged or cut short ({error}); {advice}"
            ) from error
        found = content_version(meta, tensors)
        if found != version:
            raise CorruptArtifactError(
                f"{folder} is damaged: its content has digest {found}, expected {version}; {advice}"
            )
        return Artifact(version, meta, tensors)

    def meta(self, kind: str, version: str) -> Meta:
        """What a published version says about itself; no tensors are read. Raises like `load`."""
        return read_meta(self.place, self.key(kind, version))

    def lineage(self, kind: str, version: str) -> dict[tuple[str, str], Meta]:
        """The metas of a version and of everything in the store that it was made from, by kind and
        version. Raises like `load`.
        """
        found: dict[tuple[str, str], Meta] = {}
        pending = [(kind, version)]
        while pending:
            item = pending.pop()
            if item not in found:
                found[item] = self.meta(*item)
                named = ((key.partition(".")[0], v) for key, v in found[item].parents.items())
                # A dataset and a model that others serve are named as parents, but not kept here.
                pending += [parent for parent in named if parent[0] not in ("dataset", SERVED)]
        return found

    def find(
        self, kind: str, spec: Mapping[str, JsonValue], first: str | None = None
    ) -> str | None:
        """A published version with exactly this spec, `first` if it has it, or None. Damaged ones
        are passed over.
        """
        wanted = dict(spec)
        found = [version for version, meta in self.metas(kind) if meta.spec == wanted]
        return first if first in found else next(iter(found), None)

    def metas(self, kind: str) -> Iterator[tuple[str, Meta]]:
        """All published versions with what they say about themselves, sorted; damaged ones are
        passed over. Nothing is read twice.
        """
        for version in self.versions(kind):
            try:
                if (kind, version) not in self._metas:
                    self._metas[kind, version] = self.meta(kind, version)
            except StoreError:
                continue
            yield version, self._metas[kind, version]

    def versions(self, kind: str) -> list[str]:
        """All published versions of a kind, sorted; temporary folders are not among them."""
        return self.place.wholes(self.key(kind))


def _bucket(url: str) -> Place:
    try:
        from common.store.bucket import BucketPlace
    except ImportError:
        raise StoreError(
            f"store {url}: stores on S3 need the package `obstore`: pip install 'ldcq[s3]'"
        ) from None
    return BucketPlace(url)


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StoreError(f"{field}: got {name!r}, expected letters, digits, '_', '-' and '.'")
