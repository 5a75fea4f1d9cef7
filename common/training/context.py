"""What a stage is given: its configuration, the store, where it reports and what its parents
are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from common.rpc.stage import Progress
from common.stages import ancestors
from common.store import Meta, Store, owning_variant, stage_sections
from ldcq.config import Config, resolve_variant


@dataclass(frozen=True)
class StageContext:
    """One run of one stage.

    Attributes:
        base: The configuration as it was loaded (the main pipeline's).
        store: The shared store.
        progress: Where the stage says what it is doing.
        variant: Which of the pipelines that share the store is run.
        stop: Set when the process is asked to end; `train` saves a checkpoint and raises `Stopped`.
        prior_targets: Address of the prior service of each variant.
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
        """Waits for all artifacts that one of `kind` is made from; see `wait_for`.

        Returns:
            Their versions by kind.

        Raises:
            Stopped: `stop` was set meanwhile.
        """
        return {ancestor: self.wait_for(ancestor) for ancestor in ancestors(kind)}

    def wait_for(self, kind: str) -> str:
        """Waits for the artifact of `kind` made with this configuration, from parents that were.

        After a change of configuration the artifacts of the one before are still there: a critic
        with the right settings may have been made from a VAE with the wrong ones.

        Returns:
            Its version.

        Raises:
            Stopped: `stop` was set meanwhile.
        """
        parents = self.wait_for_parents(kind)
        sections = stage_sections(self.config, kind)

        def made_with_this_configuration(meta: Meta) -> bool:
            descends = all(
                meta.parents.get(name, version) == version for name, version in parents.items()
            )
            return descends and meta.spec.get("config") == sections

        return self.store.wait(
            kind,
            owning_variant(self.base, self.variant, kind),
            accept=made_with_this_configuration,
            on_wait=self.progress.waiting,
            stop=self.stop,
        )
