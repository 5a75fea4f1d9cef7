"""The prior services that the actor calls, one per pipeline variant."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from common.rpc.clients import PriorClient
from common.stages import needed_kinds
from common.store import owning_variant
from ldcq.config import Config, resolve_variant

_WAITING = 16
"""Calls of `Act` that wait for priors which do not answer; the other half of its threads is for
calls that then fail at once, and for policies that need no prior."""


class MissingPriorError(ValueError):
    """No prior service was named for a variant that needs one."""


class Priors:
    """Clients by variant, connected when first used and shared by methods with the same prior; the
    `targets` are the address of the prior service of each variant.

    Replicas have `version_patience` seconds to follow each other to the version that is asked for.
    """

    def __init__(
        self, base: Config, targets: Mapping[str, str], version_patience: float = 5.0
    ) -> None:
        self._base, self._targets = base, dict(targets)
        self._version_patience = version_patience
        self._clients: dict[str, PriorClient] = {}
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(_WAITING)

    def client(self, variant: str) -> PriorClient:
        """The client of the service that serves the prior of `variant`.

        Raises:
            MissingPriorError: No address was given for it.
        """
        owner = owning_variant(self._base, variant, "prior")
        target = self._target(variant)
        if not target:
            given = ", ".join(sorted(self._targets)) or "none"
            raise MissingPriorError(
                f"no prior service is known for the variant {owner!r} (given: {given}): "
                f"add --prior {owner}=HOST:PORT"
            )
        with self._lock:
            if target not in self._clients:
                self._clients[target] = PriorClient(
                    target,
                    waiting=self._waiting,
                    priority="actor",
                    version_patience=self._version_patience,
                )
            return self._clients[target]

    def lacking(self) -> dict[str, list[str]]:
        """The methods that cannot act, by the variant whose prior has no address."""
        found: dict[str, list[str]] = {}
        for name, method in self._base.evaluation.methods.items():
            own = resolve_variant(self._base, method.variant)
            if "prior" in needed_kinds(method.policy, own) and not self._target(method.variant):
                owner = owning_variant(self._base, method.variant, "prior")
                found.setdefault(owner, []).append(name)
        return found

    def _target(self, variant: str) -> str | None:
        owner = owning_variant(self._base, variant, "prior")
        return self._targets.get(owner) or self._targets.get(variant)

    def __enter__(self) -> Priors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
