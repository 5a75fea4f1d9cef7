"""What an experiment returns: rows of scores and what belongs beside them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from services.actor.report.theme import Draw
from services.actor.scores import Estimate

Scale = Literal["smoke", "small", "full"]
Scalar = str | int | float | bool | None
Value = Scalar | Estimate


@dataclass(frozen=True)
class PaperValue:
    """What the paper reports, from its own data: to be seen beside, not to be compared digit by
    digit.

    Attributes:
        value: The number.
        source: Where it stands: "Table 1".
        data: What it was measured on: "maze2d-large-v1 of D4RL".
        error: The +- beside it; None where there is none.
    """

    value: float
    source: str
    data: str
    error: float | None = None

    def as_json(self) -> dict[str, Scalar]:
        """All of it by name."""
        return {
            "value": self.value,
            "error": self.error,
            "source": self.source,
            "data": self.data,
        }

    def text(self) -> str:
        """As it is shown in a table."""
        return f"{self.value:g}" + ("" if self.error is None else f" ± {self.error:g}")


@dataclass(frozen=True)
class Row:
    """One method with one setting.

    Attributes:
        method: `ldcq`, `bcq_h`, `bcq`, `bc`, `prior`, `ldgc`, `ldcp`, ...
        settings: Further columns that say what was varied: `{"horizon": 10}`. All rows of a result
            have the same.
        episode_return: Undiscounted return (normalised where the task defines that); JSON name
            `return`. None where nothing was played.
        first_hit: The first-hit convention's; None where the task does not define it.
        success: Share of episodes with a reward; None where the task does not define it.
        measures: Further measured columns: `{"off_support": 0.03}`.
        episodes: Episodes played per training seed.
        seeds: Training seeds.
        train_seconds: Wall seconds that the stages of one training seed of this method took on
            average, those it shares with others included; None where nothing is trained.
        paper: The paper's number.
    """

    method: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    episode_return: Estimate | None = None
    first_hit: Estimate | None = None
    success: float | None = None
    measures: Mapping[str, Value] = field(default_factory=dict)
    episodes: int = 0
    seeds: int = 0
    train_seconds: float | None = None
    paper: PaperValue | None = None

    def as_json(self) -> dict[str, Any]:
        """The row of `results.json`."""
        return {
            "method": self.method,
            **self.settings,
            "return": _json(self.episode_return),
            "first_hit": _json(self.first_hit),
            "success": self.success,
            **{name: _json(value) for name, value in self.measures.items()},
            "episodes": self.episodes,
            "seeds": self.seeds,
            "train_seconds": self.train_seconds,
            "paper": None if self.paper is None else self.paper.as_json(),
        }


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        name: Of the file, without its ending.
        caption: What it shows, in words.
        draw: Draws it.
    """

    name: str
    caption: str
    draw: Draw


@dataclass(frozen=True)
class Findings:
    """What an experiment's module returns.

    Attributes:
        rows: In the order of the table.
        pictures: In the order of the page.
        notes: Sentences (Markdown) for the reader: what was seen, what differs from the paper.
        settings: What was used, by name, for the table at the page's end.
        artifacts: Versions of what the rows come from, by name.
        confidence: Of the intervals.
    """

    rows: Sequence[Row]
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    confidence: float = 0.95


@dataclass(frozen=True)
class Result:
    """Findings and how they were made; what `results.json` and the page are written from.

    Attributes:
        name: The experiment's.
        title: What a page is called.
        shows: What it is to show, in a sentence or two.
        paper: Where the paper shows it: "Tables 1, 8".
        command: The command line that makes it again.
        scale: smoke, small or full.
        dataset: Dataset id.
        seeds: The training seeds.
        findings: What came of it.
        wall_seconds: From start to end, over all calls that made something.
        hardware: See `hardware`.
        shared_store: Other experiments train in the same store; what they trained alike was there.
    """

    name: str
    title: str
    shows: str
    paper: str
    command: str
    scale: Scale
    dataset: str
    seeds: tuple[int, ...]
    findings: Findings
    wall_seconds: float
    hardware: str
    shared_store: bool = False

    def as_json(self) -> dict[str, Any]:
        """`results.json`."""
        return {
            "experiment": self.name,
            "title": self.title,
            "paper": self.paper,
            "command": self.command,
            "scale": self.scale,
            "dataset": self.dataset,
            "seeds": list(self.seeds),
            "confidence": self.findings.confidence,
            "rows": [row.as_json() for row in self.findings.rows],
            "notes": list(self.findings.notes),
            "settings": dict(self.findings.settings),
            "artifacts": dict(self.findings.artifacts),
            "pictures": [picture.name for picture in self.findings.pictures],
            "wall_seconds": self.wall_seconds,
            "hardware": self.hardware,
            "shared_store": self.shared_store,
        }


def hardware() -> str:
    """What was computed on, without saying where: cores, architecture, GPU, torch."""
    cores = len(os.sched_getaffinity(0))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} CPU cores ({platform.machine()}), {gpu}, torch {torch.__version__}"


def _json(value: Value) -> Any:
    return value.as_json() if isinstance(value, Estimate) else value
