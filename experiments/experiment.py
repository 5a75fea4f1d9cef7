"""What an experiment is given: what was asked for, and the pipeline it runs its configurations
through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.store import Store
from experiments.result import Findings, Scale
from ldcq.config import Config


class Pipeline(Protocol):
    """Runs configurations on one store; what the store holds already is not made again."""

    def run(self, config: Config) -> str:
        """Trains what the configured methods need, plays them; returns the evaluation's version."""
        ...

    def evaluate(self, config: Config) -> str:
        """Plays the configured methods with models that are there; returns like `run`."""
        ...

    def train(self, config: Config, stage: str, variant: str = "main") -> str:
        """Trains one stage (`vae`, `prior`, `critic`, ...) of one pipeline; returns its version."""
        ...

    def say(self, text: str) -> None:
        """Tells the user where the experiment stands."""
        ...


@dataclass(frozen=True)
class Context:
    """One call of an experiment.

    Attributes:
        scale: smoke, small or full.
        seeds: Training seeds: 0, 1, ...
        dataset: Dataset to use instead of the experiment's own; None: its own.
        store: Holds everything trained.
        folder: Where the experiment's results are written.
        pipeline: Runs configurations on `store`.
        third_party: Folder of data of third parties, None where none was named.
    """

    scale: Scale
    seeds: tuple[int, ...]
    dataset: str | None
    store: Store
    folder: Path
    pipeline: Pipeline
    third_party: Path | None = None


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper; a module's `EXPERIMENT`.

    Attributes:
        name: On the command line.
        title: Of its page.
        shows: What it is to show, in a sentence or two.
        paper: Where the paper shows it: "Tables 1, 8".
        seeds: Training seeds of each scale, where none are asked for.
        run: Runs it. It raises what pipelines raise, and ConfigError where the dataset asked for
            has not what it needs.
        settings: Whose files in `settings` say what is run; empty: its own.
        takes_dataset: Whether another dataset may be named.
    """

    name: str
    title: str
    shows: str
    paper: str
    seeds: Mapping[Scale, int]
    run: Callable[[Context], Findings]
    settings: str = ""
    takes_dataset: bool = True
