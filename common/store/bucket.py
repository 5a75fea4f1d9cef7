"""A place on S3: a folder is whole or absent by the order of writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from common.store.errors import StoreError
from common.store.files import WriterLock
from common.store.place import META, local_root

_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]*[a-z0-9])(?:/(?P<prefix>.*?))?/?")
_RETRIES: Any = {"max_retries": 6}


class BucketPlace:
    """A prefix of a bucket. S3 has no rename, but shows every object whole, and at once to all.

    Its methods do what those of `FolderPlace` do. A folder is published by its `meta.json`: written
    last, looked for first. Writers of one folder write the same objects, so two of them at once
    waste work and harm nothing.
    """

    def __init__(self, url: str) -> None:
        """Opens `s3://BUCKET/PREFIX`, with what the usual AWS_* variables say.

        Raises:
            StoreError: The URL is none, or the bucket cannot be read.
        """
        found = _URL.fullmatch(url)
        if found is None:
            raise StoreError(f"store {url}: expected a folder, s3://BUCKET or s3://BUCKET/PREFIX")
        self._bucket, self._prefix = found["bucket"], found["prefix"] or ""
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        with self._explained("read"):
            self._objects = self._at("")
            obstore.list_with_delimiter(self._objects)

    def _at(self, key: str) -> S3Store:
        # Plain HTTP only where it is asked for by the endpoint's own scheme.
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT", "")
        return S3Store(
            self._bucket,
            prefix="/".join(part for part in (self._prefix, key) if part) or None,
            client_options={"allow_http": endpoint.startswith("http://")},
            retry_config=_RETRIES,
        )

    def where(self, key: str) -> str:
        return f"{self.url}/{key}"

    def read(self, key: str) -> bytes | None:
        with self._explained("read", key):
            try:
                return bytes(obstore.get(self._objects, key).bytes())
            except FileNotFoundError:
                return None

    def write(self, key: str, data: bytes) -> None:
        """One PUT, which S3 does wholly or not."""
        with self._explained("write", key):
            obstore.put(self._objects, key, data)

    def remove(self, key: str) -> None:
        """First the meta, so that no reader takes what is going for whole."""
        with self._explained("remove", key):
            keys = {f"{key}/{name}" for name in self.keys(key)} | {key}
            if (meta := f"{key}/{META}") in keys:
                obstore.delete(self._objects, meta)
            obstore.delete(self._objects, sorted(keys - {meta}))

    def names(self, folder: str) -> list[str]:
        with self._explained("list", folder):
            found = obstore.list_with_delimiter(self._objects, folder)["objects"]
        return sorted(item["path"].rpartition("/")[2] for item in found)

    def wholes(self, folder: str) -> list[str]:
        with self._explained("list", folder):
            found = obstore.list_with_delimiter(self._objects, folder)["common_prefixes"]
        names = (path.rstrip("/").rpartition("/")[2] for path in found)
        return sorted(
            name for name in names if name[0] != "." and self.is_whole(f"{folder}/{name}")
        )

    def keys(self, folder: str) -> set[str]:
        with self._explained("list", folder):
            batches = list(obstore.list(self._objects, folder))
        return {item["path"].removeprefix(f"{folder}/") for batch in batches for item in batch}

    def is_whole(self, folder: str) -> bool:
        with self._explained("read", folder):
            try:
                obstore.head(self._objects, f"{folder}/{META}")
            except FileNotFoundError:
                return False
            return True

    def add(self, folder: str, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        if self.is_whole(folder) and not replace:
            return
        for name in sorted(files, key=lambda name: name == META):
            self.write(f"{folder}/{name}", files[name])

    def publish(self, staged: str, final: str, *, replace: bool = False) -> None:
        """The server copies, nothing is sent."""
        if replace:
            self.remove(f"{final}/{META}")
        try:
            if not self.is_whole(final):
                with self._explained("write", final):
                    for name in sorted(self.keys(staged), key=lambda name: name == META):
                        obstore.copy(self._objects, f"{staged}/{name}", f"{final}/{name}")
        except StoreError:
            # Another writer may have published first, and removed what was staged.
            if not self.is_whole(final):
                raise
        self.remove(staged)

    def zarr(self, folder: str) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self._at(folder))

    def sync(self, folder: str) -> None:
        """A write that S3 has answered stays."""

    def lock(self, key: str, what: str) -> WriterLock:
        """One writer on this machine, as S3 has no lock that a dead holder frees."""
        return WriterLock(local_root(self.url) / key, what)

    @contextmanager
    def _explained(self, verb: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(
                f"store {self.url}: cannot {verb} {key or 'the bucket'}: {reason}; "
                "AWS_ENDPOINT_URL, AWS_REGION and the credentials say where and as whom"
            ) from error
