"""Which configurations a store has run already, so that no process is started to find it out."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue

from common.stages import STAGES
from common.store import Store, StoreError, digest, stage_sections
from common.store.datasets import stamp
from common.store.files import replace_atomically
from ldcq.config import Config, resolve_variant


class KnownRuns:
    """The evaluations of whole configurations on one store.

    What decides a result is in the stages' own specs; this only remembers which evaluation came of
    which of them and which dataset, and forgets it where an artifact is gone.

    Args:
        store: Where the artifacts are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, config: Config) -> str | None:
        """The evaluation of a configuration that was run; None where it has to be run."""
        try:
            version = str(json.loads(self._path(config).read_text())["evaluation"])
            self._store.lineage("evaluation", version)  # all of it is there
        except (FileNotFoundError, ValueError, KeyError, TypeError, StoreError):
            return None
        return version

    def add(self, config: Config, version: str) -> None:
        """Remembers what came of a configuration."""
        path = self._path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, json.dumps({"evaluation": version}).encode())

    def _path(self, config: Config) -> Path:
        variants = (config.variant, *config.variants)
        decides: dict[str, JsonValue] = {
            name: {kind: stage_sections(resolve_variant(config, name), kind) for kind in STAGES}
            for name in variants
        }
        key = digest({"sections": decides, "dataset": stamp(config.data, self._store.root)})
        return self._store.root / "experiments" / f"{key}.json"
