"""What a stage is given: its configuration, the store, where it reports, what its parents are."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from common.rpc.stage import Progress
from common.stages import STAGES, ancestors
from common.store import NotMadeError, Store, made
from common.store.datasets import UnreadDataError, known_fingerprint
from ldcq.config import Config, resolve_variant
from ldcq.learning.learner import Stopped

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class StageContext:
    """One run of one stage.

    Attributes:
        base: The configuration as it was loaded (the main pipeline's).
        store: The shared store.
        progress: Where the stage says what it is doing.
        variant: Which of the pipelines that share the store is run.
        stop: Set when the process is asked to end; `train` saves a checkpoint and raises `Stopped`.
        prior_targets: As `ServiceSettings.prior_targets`.
    """

    base: Config
    store: Store
    progress: Progress
    variant: str = "main"
    stop: threading.Event = field(default_factory=threading.Event)
    prior_targets: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def config(self) -> Config:
        """The variant's own configuration."""
        return resolve_variant(self.base, self.variant)

    def wait_for_parents(self, kind: str) -> dict[str, str]:
        """Waits for all artifacts that one of `kind` is made from, as `wait_for` does; their
        versions by kind.
        """
        return self._wait_for(ancestors(kind, self.config))

    def wait_for(self, kind: str) -> str:
        """Waits for the artifact of `kind` made with this configuration from the data as they are
        (see `made`); its version.

        Raises:
            Stopped: `stop` was set meanwhile.
        """
        return self._wait_for((*ancestors(kind, self.config), kind))[kind]

    def _wait_for(self, kinds: Sequence[str]) -> dict[str, str]:
        told = ""
        while True:
            try:
                data = known_fingerprint(self.config.data, self.store.root)
                found = made(self.store, self.base, self.variant, kinds, dataset=data)
            except UnreadDataError as unread:
                reader = STAGES[(*ancestors("vae", self.config), "vae")[0]]
                kind, reason = "dataset", f"{unread}; made and read by {reader.command()}"
            except NotMadeError as missing:
                kind, reason = missing.kind, self._waiting_for(missing)
            else:
                if told:  # until it runs, it reads what it found: that may take long
                    self.progress.waiting("what it waited for is there; reading it")
                return found
            if reason != told:
                self.progress.waiting(reason, kind)
                told = reason
            if self.stop.wait(_POLL_SECONDS):
                raise Stopped(f"asked to stop while waiting: {reason}")

    def _waiting_for(self, missing: NotMadeError) -> str:
        kind, owner, current = missing.kind, missing.owner, missing.current
        start = STAGES[kind].command(owner)
        if current is None:
            return f"waiting for {kind} of {owner} in {self.store.where(kind)}; made by {start}"
        return (
            f"waiting for {kind} of {owner}: the current one ({current}) was made {missing.why}; "
            f"made anew by {start}"
        )
