"""Artifacts: immutable folders named by their content, and one pointer per kind and variant."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from common.store.errors import (
    CorruptArtifactError,
    MissingArtifactError,
    StoreError,
    WaitInterrupted,
)
from common.store.files import move_into_place, replace_atomically, staging_folder, sync_folder
from common.store.files import write_durably as write
from common.store.meta import Artifact, Meta, content_version, meta_bytes, read_meta

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Store:
    """A folder shared by all stages and services.

    Readers and writers need no lock: a published folder never changes, it appears by one rename,
    and the pointer `CURRENT` is replaced atomically after it.
    """

    def __init__(self, url: str | Path) -> None:
        """Opens a store, creating the folder.

        Raises:
            StoreError: The folder cannot be created or written, or the URL is not a folder.
        """
        if "://" in str(url):
            raise StoreError(f"store {url}: not supported yet; expected a folder")
        self.root = Path(url).expanduser().absolute()
        probe = self.root / f".writable-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store {self.root} is not writable: {error.strerror or error}; "
                "choose another folder with --store, or give this user the right to write there"
            ) from error

    def folder(self, kind: str) -> Path:
        """Where the versions of `kind` lie; what is large (latents, candidates) lies apart."""
        _check_name("kind", kind)
        return (
            self.root / kind
            if kind in ("latents", "candidates")
            else self.root / "artifacts" / kind
        )

    def publish(
        self,
        meta: Meta,
        tensors: Mapping[str, np.ndarray],
        config_yaml: str,
        variant: str = "main",
    ) -> str:
        """Adds an artifact and makes it the current one of its kind.

        Several processes may publish the same content at once: all succeed.

        Args:
            meta: What it is; `meta.kind` is its kind.
            tensors: Weights by name, any shape.
            config_yaml: The resolved configuration, kept for people to read.
            variant: Whose pointer to set.

        Returns:
            The version, a digest of `meta` and `tensors`.

        Raises:
            StoreError: The disk does not take it, or `meta` holds NaN or infinity.
        """
        folder = self.folder(meta.kind)
        arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        try:
            version = content_version(meta, arrays)
        except ValueError as error:
            raise StoreError(f"{meta.kind}: its meta is not JSON: {error}") from error
        final = folder / version
        try:
            if final.exists() and not self._intact(meta.kind, version):
                # Damaged on disk since: readers refuse it, so that moving it takes nothing away.
                final.rename(folder / f".damaged-{version}-{uuid.uuid4().hex[:8]}")
            if not final.exists():
                with staging_folder(folder, version) as temporary:
                    write(temporary / "weights.safetensors", save_tensors(arrays))
                    write(temporary / "meta.json", meta_bytes(meta))
                    write(temporary / "config.yaml", config_yaml.encode())
                    sync_folder(temporary)
                    move_into_place(temporary, final)
        except OSError as error:
            raise StoreError(f"cannot publish {meta.kind} {version} at {final}: {error}") from error
        self.point(meta.kind, version, variant)
        return version

    def _intact(self, kind: str, version: str) -> bool:
        try:
            self.load(kind, version)
        except StoreError:
            return False
        return True

    def current(self, kind: str, variant: str = "main") -> str | None:
        """The version a variant's pointer names, or None before the first publication."""
        path = self._pointer(kind, variant)
        try:
            version = path.read_text().strip()
        except FileNotFoundError:
            return None
        if not _NAME.fullmatch(version):
            raise CorruptArtifactError(
                f"{path} holds {version[:40]!r}, expected a version; "
                "delete it and start the stage again"
            )
        return version

    def pointers(self, kind: str) -> dict[str, str]:
        """The current version of a kind by variant, the main one first."""
        names = (path.name for path in self.folder(kind).glob("CURRENT*"))
        variants = sorted(name.removeprefix("CURRENT").removeprefix(".") for name in names)
        found = {variant or "main": self.current(kind, variant or "main") for variant in variants}
        return {variant: version for variant, version in found.items() if version is not None}

    def point(self, kind: str, version: str, variant: str = "main") -> None:
        """Makes a published version the current one of a variant.

        Raises:
            MissingArtifactError: It has not been published.
        """
        if not (self.folder(kind) / version).is_dir():
            raise MissingArtifactError(
                f"cannot point {variant} to {kind} {version}: it is not in {self.folder(kind)}"
            )
        if self._pointer(kind, variant).exists() and self.current(kind, variant) == version:
            return
        replace_atomically(self._pointer(kind, variant), f"{version}\n".encode())

    def _pointer(self, kind: str, variant: str) -> Path:
        _check_name("variant", variant)
        return self.folder(kind) / ("CURRENT" if variant == "main" else f"CURRENT.{variant}")

    def load(self, kind: str, version: str) -> Artifact:
        """Reads an artifact and verifies that its content is what its version says.

        Raises:
            MissingArtifactError: It is not in the store.
            CorruptArtifactError: A file is damaged or cut short.
        """
        folder = self.folder(kind) / version
        meta = read_meta(folder)
        path = folder / "weights.safetensors"
        advice = f"delete the folder {folder} and start the {kind} stage again"
        try:
            tensors = load_tensors(path.read_bytes())
        except FileNotFoundError:
            raise CorruptArtifactError(f"{path} is missing; {advice}") from None
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
        return read_meta(self.folder(kind) / version)

    def find(self, kind: str, spec: Mapping[str, JsonValue]) -> str | None:
        """A published version with exactly this spec, or None. Damaged ones are passed over."""
        wanted = dict(spec)
        for version in self.versions(kind):
            try:
                if self.meta(kind, version).spec == wanted:
                    return version
            except StoreError:
                continue
        return None

    def versions(self, kind: str) -> list[str]:
        """All published versions of a kind, sorted; temporary folders are not among them."""
        folder = self.folder(kind)
        if not folder.is_dir():
            return []
        return sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )

    def wait(
        self,
        kind: str,
        variant: str = "main",
        *,
        accept: Callable[[Meta], bool] = lambda _: True,
        on_wait: Callable[[str], None] = lambda _: None,
        stop: threading.Event | None = None,
        poll: float = 0.5,
    ) -> str:
        """Blocks until a variant's current artifact is there and is accepted.

        Args:
            kind: What to wait for; also "latents".
            variant: Whose.
            accept: Whether this artifact will do, by its meta.
            on_wait: Told what is waited for, in words; once per reason.
            stop: Set to give up.
            poll: Seconds between looks.

        Returns:
            The version.

        Raises:
            WaitInterrupted: `stop` was set.
        """
        stop = stop or threading.Event()
        told = ""
        while True:
            version = self.current(kind, variant)
            if version is not None:
                try:
                    if accept(self.meta(kind, version)):
                        return version
                except MissingArtifactError:
                    version = None  # deleted by hand; the stage that makes it will publish it again
            reason = self._waiting_for(kind, variant, version)
            if reason != told:
                on_wait(reason)
                told = reason
            if stop.wait(poll):
                raise WaitInterrupted(f"asked to stop while waiting: {reason}")

    def _waiting_for(self, kind: str, variant: str, version: str | None) -> str:
        stage = {"latents": "vae", "candidates": "critic"}.get(kind, kind)
        option = "" if variant == "main" else f" --variant {variant}"
        start = f"`ldcq train {stage} CONFIG{option}`"
        if version is None:
            return f"waiting for {kind} of {variant} in {self.folder(kind)}; made by {start}"
        return (
            f"waiting for {kind} of {variant}: the current one ({version}) was made with another "
            f"configuration or from other parents; made anew by {start}"
        )


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise StoreError(f"{field}: got {name!r}, expected letters, digits, '_', '-' and '.'")
