"""The priors that the actor draws from, one per pipeline variant: services, or models in this
process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from common.models import sampler_of
from common.rpc.clients import PriorClient
from common.rpc.settings import IN_PROCESS
from common.stages import needed_kinds
from common.store import Store, owning_variant
from common.training import resolve_device
from ldcq.config import Config, resolve_variant
from ldcq.latent_prior import Description, Draw, LatentPrior, Samples
from ldcq.prior import Sampler

_WAITING = 16
"""Calls of `Act` that wait for priors which do not answer; the other half of its threads is for
calls that then fail at once, and for policies that need no prior."""


class MissingPriorError(ValueError):
    """No prior service was named for a variant that needs one."""


class Priors:
    """Priors by variant, connected or loaded when first used and shared by methods with the same.

    Args:
        base: The main pipeline's configuration.
        targets: As `ServiceSettings.prior_targets`.
        store: Where the models of priors in this process are.
        version_patience: Seconds that replicas have to follow each other to the version that is
            asked for.
    """

    def __init__(
        self,
        base: Config,
        targets: Mapping[str, str],
        store: Store,
        version_patience: float = 5.0,
    ) -> None:
        self._base, self._targets, self._store = base, dict(targets), store
        self._version_patience = version_patience
        self._clients: dict[str, PriorClient] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(_WAITING)

    def prior(self, variant: str, version: str) -> LatentPrior:
        """The prior of a variant, of which one version alone will do.

        Args:
            variant: The pipeline.
            version: The model version, as its service announces it.

        Raises:
            MissingPriorError: It is not known where the variant's prior is.
            StoreError: It is to be drawn from here, but cannot be loaded.
            UnknownPriorError: The same, and its implementation is not installed.
        """
        target, owner = self._known_target(variant)
        if target != IN_PROCESS:
            return self._client(target).pinned(version)
        with self._lock:
            loaded = self._loaded.get(owner)
            if loaded is None or loaded.version != version:
                artifact = self._store.load("prior", version)
                sampler = sampler_of(artifact, resolve_device(self._base))
                loaded = self._loaded[owner] = _Loaded(sampler, version)
            return loaded

    def wait_ready(
        self, variant: str, version: str, on_wait: Callable[[str], None], stop: threading.Event
    ) -> None:
        """Waits until the service of a variant's prior, if it has one, serves this version.

        Raises:
            MissingPriorError: It is not known where the variant's prior is.
            Stopped: `stop` was set.
            CallError: The service answers, but is no usable prior.
        """
        target, _ = self._known_target(variant)
        if target != IN_PROCESS:
            self._client(target).wait_ready(on_wait, stop, expected_version=version)

    def lacking(self) -> dict[str, list[str]]:
        """The methods that cannot act, by the variant whose prior has no address."""
        found: dict[str, list[str]] = {}
        for name, method in self._base.evaluation.methods.items():
            own = resolve_variant(self._base, method.variant)
            if "prior" in needed_kinds(method.policy, own) and not self._target(method.variant):
                owner = owning_variant(self._base, method.variant, "prior")
                found.setdefault(owner, []).append(name)
        return found

    def _client(self, target: str) -> PriorClient:
        with self._lock:
            if target not in self._clients:
                self._clients[target] = PriorClient(
                    target,
                    waiting=self._waiting,
                    priority="actor",
                    version_patience=self._version_patience,
                )
            return self._clients[target]

    def _known_target(self, variant: str) -> tuple[str, str]:
        """Where a variant's prior is drawn from, and the variant that owns it."""
        target, owner = self._target(variant), owning_variant(self._base, variant, "prior")
        if not target:
            given = ", ".join(sorted(self._targets)) or "none"
            raise MissingPriorError(
                f"no prior service is known for the variant {owner!r} (given: {given}): "
                f"add --prior {owner}=HOST:PORT"
            )
        return target, owner

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


class _Loaded:
    """A prior in this process. Calls take turns: on a GPU a sampler has tensors of its own that a
    draw writes to.
    """

    def __init__(self, sampler: Sampler, version: str) -> None:
        self.version = version
        self._sampler, self._lock = sampler, threading.Lock()

    def describe(self) -> Description:
        """See `LatentPrior`."""
        return self._sampler.describe()

    def sample(self, draw: Draw) -> Samples:
        """See `LatentPrior`."""
        with self._lock:
            return self._sampler.sample(draw)

    def sample_async(self, draw: Draw) -> Future[Samples]:
        """See `LatentPrior`."""
        with self._lock:
            return self._sampler.sample_async(draw)
