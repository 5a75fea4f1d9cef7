"""Where a service process listens and what it works on; none of it decides a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.store import Store, meant
from ldcq.config import Config

IN_PROCESS = "in-process"
"""The target of a prior that its caller loads from the store and computes itself: no service."""


@dataclass(frozen=True)
class ServiceSettings:
    """What every service process is started with.

    Attributes:
        config: The configuration as loaded (the main pipeline's).
        store: The shared store.
        variant: Which of the pipelines that share the store this process belongs to.
        listen: gRPC address: `host:port` (port 0 takes a free one) or `unix:/path`.
        metrics_port: Port of the Prometheus endpoint, 0 for a free one, None for none.
        metrics_host: Address of the interface it listens on; None: that of `listen`.
        metrics_targets: File that says where that endpoint is, in Prometheus' file_sd format.
        prior_targets: Address of the prior service of each variant, or `IN_PROCESS`, for those who
            draw from it.
        train_first: Train (or resume) and publish before serving, with progress and health already
            answered.
        as_configured: Serve what was made with the configuration, where the store has it, and not
            what is current.
    """

    config: Config
    store: Store
    variant: str = "main"
    listen: str = "127.0.0.1:0"
    metrics_port: int | None = None
    metrics_host: str | None = None
    metrics_targets: Path | None = None
    prior_targets: Mapping[str, str] = field(default_factory=dict)
    train_first: bool = False
    as_configured: bool = False

    def served(self, kind: str, variant: str) -> Callable[[], str | None]:
        """Looks up the version of `kind` that is to be served for a variant."""
        if self.as_configured:
            return meant(self.store, self.config, variant, kind)
        return partial(self.store.current, kind, variant)
