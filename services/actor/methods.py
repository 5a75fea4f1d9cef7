"""The methods an actor serves: follows their models in the store and keeps a policy for each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import torch

from common.rpc.errors import NotReadyError
from common.stages import STAGES
from common.store import Follower, LineageError, Store
from ldcq.config import Config
from services.actor.method_policy import MethodPolicy, method_policy
from services.actor.models import Models, Part, followed_artifacts, method_models, model_loader
from services.actor.priors import Priors

_LOGGER = logging.getLogger(__name__)


class ServedMethods:
    """The configured methods that have models, always with the newest ones.

    Args:
        base: The main pipeline's configuration.
        store: Where the models appear.
        priors: The prior services.
        device: Where decoders and critics are computed.
        on_change: Told whether this actor is ready, whenever a model was loaded.
        served: What looks up the version to serve, for a kind and a variant; None: the current one.
    """

    def __init__(
        self,
        base: Config,
        store: Store,
        priors: Priors,
        device: torch.device,
        on_change: Callable[[bool], None],
        served: Callable[[str, str], Callable[[], str | None]] | None = None,
    ) -> None:
        self._base, self._priors = base, priors
        self._on_change = on_change
        self._lock, self._changing = threading.Lock(), threading.Lock()
        self._policies: dict[str, MethodPolicy] = {}
        followed = {method: followed_artifacts(base, method) for method in base.evaluation.methods}
        self._sources = {method: sources for method, sources in followed.items() if sources}
        self._followers: dict[tuple[str, str], Follower[Part]] = {
            (kind, variant): Follower(
                store,
                kind,
                variant,
                model_loader(store, kind, device),
                wanted=served(kind, variant) if served else None,
                on_swap=lambda _version, _part: self._changed(),
            )
            for sources in self._sources.values()
            for kind, variant in sources
        }

    @property
    def names(self) -> list[str]:
        """All methods that act, ready or not, in the configuration's order."""
        return list(self._sources)

    @property
    def ready(self) -> list[str]:
        """The methods whose models are loaded."""
        return [method for method in self._sources if self._is_ready(method)]

    def start(self) -> None:
        """Starts to follow the store."""
        for follower in self._followers.values():
            follower.start()

    def stop(self) -> None:
        """Ends it."""
        for follower in self._followers.values():
            follower.stop()

    def models(self, method: str) -> Models:
        """The models of a method.

        Raises:
            NotReadyError: There are none yet.
        """
        parts = []
        for kind, variant in self._sources[method]:
            follower = self._followers[kind, variant]
            current = follower.current()
            if current is None:
                nothing = f"no {kind} of {variant} yet; made by {STAGES[kind].command(variant)}"
                raise NotReadyError(f"{method}: {follower.problem or nothing}")
            parts.append(current[1])
        try:
            return method_models(self._base, method, parts)
        except LineageError as error:
            raise NotReadyError(f"{method}: {error}") from error

    def policy(self, method: str) -> MethodPolicy:
        """The policy of a method, over its newest models.

        Raises:
            NotReadyError: There are no models yet.
            MissingPriorError: No prior service is known for it.
            RpcError: The prior service does not answer.
        """
        models = self.models(method)
        with self._lock:
            policy = self._policies.get(method)
        if policy is None or policy.models.versions != models.versions:
            policy = method_policy(self._base, method, models, self._priors)
            with self._lock:
                self._policies[method] = policy
        return policy

    def _is_ready(self, method: str) -> bool:
        try:
            self.models(method)
        except NotReadyError:
            return False
        return True

    def _changed(self) -> None:
        """Ready means: something to serve, and nothing published that is still to be loaded."""
        with self._changing:  # two followers may load at once: the last word must be the newest
            loaded = [
                follower.current() is not None or follower.wanted() is None
                for follower in self._followers.values()
            ]
            self._on_change(all(loaded))
