"""One writer at a time on S3, where no kernel frees a lock: a lease that its holder renews."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

from common.store.errors import StoreError

_LOG = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
"""How often a holder shows that it lives."""

DEAD_SECONDS = 20.0
"""After how long without that its lease is taken over."""


class Lease:
    """An object that only one process has created (`If-None-Match`) or taken over (`If-Match`).

    Nobody compares clocks: who wants a lease watches for as long as a holder may be silent whether
    the object changes.

    Raises:
        StoreError: A process that lives holds it; the message names it.
    """

    def __init__(self, objects: Any, key: str, what: str, where: str) -> None:
        self._objects, self._key, self._what, self._where = objects, key, what, where
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        self._token = uuid.uuid4().hex
        self._tag: str | None = None
        self._lost = False
        self._released = threading.Event()
        try:
            self._acquire()
        except NotSupportedError:
            _LOG.warning("%s: no conditional writes: nothing keeps a second writer away", where)
            return
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See `Lock`."""
        if self._lost:
            raise StoreError(
                f"{self._what}: another process took the writing over (lock {self._where}), as "
                f"this one was not heard of for {DEAD_SECONDS:g} s; start the stage again"
            )

    def release(self) -> None:
        """See `Lock`."""
        if self._released.is_set() or self._tag is None:
            return
        self._released.set()
        self._thread.join()
        try:
            if self._is_own(self._look()):
                obstore.delete(self._objects, self._key)
        except (BaseError, OSError) as error:
            _LOG.warning("%s: not released, but will expire: %s", self._where, _line(error))

    def _acquire(self) -> None:
        deadline = time.monotonic() + DEAD_SECONDS
        first: tuple[str, str] | None = None
        while True:
            try:
                self._tag = self._put("create")
                return
            except AlreadyExistsError:
                found = self._look()
            if found is None:  # released meanwhile
                continue
            if self._is_own(found):  # created, but the answer was lost
                self._tag = found[0]
                return
            first = first or found
            if found[0] != first[0]:
                self._refuse(found)
            if time.monotonic() > deadline:
                try:
                    self._tag = self._put({"e_tag": found[0]})
                except PreconditionError:
                    self._refuse(found)
                _LOG.warning("%s: taken over from %s, which is gone", self._where, _name(found))
                return
            time.sleep(RENEW_SECONDS / 5)

    def _refuse(self, found: tuple[str, str]) -> None:
        raise StoreError(
            f"{self._what} is being written by {_name(found)} (lock {self._where}); wait for it, "
            f"or end that process: its lock goes {DEAD_SECONDS:g} s after it"
        )

    def _renew(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            try:
                if not self._prolong():
                    self._lost = True
                    return
            except (BaseError, OSError) as error:
                _LOG.warning("%s: not renewed: %s", self._where, _line(error))

    def _prolong(self) -> bool:
        try:
            self._tag = self._put({"e_tag": self._tag})
        except (PreconditionError, FileNotFoundError):
            found = self._look()
            if found is None or not self._is_own(found):
                return False
            self._tag = found[0]  # renewed, but the answer was lost
        return True

    def _put(self, mode: Any) -> str | None:
        # Another content each time, as the tag may be a digest of it.
        body = f"{self._holder}\n{self._token}\n{uuid.uuid4().hex}\n".encode()
        return obstore.put(self._objects, self._key, body, mode=mode)["e_tag"]

    def _look(self) -> tuple[str, str] | None:
        """Tag and content of the object, or None where there is none."""
        try:
            reply = obstore.get(self._objects, self._key)
            return reply.meta["e_tag"] or "", bytes(reply.bytes()).decode()
        except FileNotFoundError:
            return None

    def _is_own(self, found: tuple[str, str] | None) -> bool:
        return found is not None and self._token in found[1]


def _name(found: tuple[str, str]) -> str:
    return found[1].partition("\n")[0] or "another process"


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
