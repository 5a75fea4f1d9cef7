"""What an experiment is, what it is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from common.store import Store
from ldcq.config import Config
from services.actor.report.theme import Draw
from services.actor.scores import Estimate

Scale = Literal["smoke", "small", "full"]
Scalar = str | int | float | bool | None
Value = Scalar | Estimate
Methods = Mapping[str, Mapping[str, str]]
"""What is played, as `evaluation.methods`."""


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
    """One call of an experiment."""

    configs: Mapping[str, Config]  # by task, at this scale; of several tasks or of one
    scale: Scale
    seeds: tuple[int, ...]  # of training: 0, 1, ...
    dataset: str | None  # used instead of the experiment's own
    store: Store
    pipeline: Pipeline  # runs on `store`
    third_party: Path | None = None  # folder of data of third parties

    @property
    def config(self) -> Config:
        """That of the first task."""
        return next(iter(self.configs.values()))


@dataclass(frozen=True)
class PaperValue:
    """What the paper reports, from its own data: to be seen beside, not to be compared digit by
    digit.
    """

    value: float
    source: str  # where it stands: "Table 1"
    data: str  # what it was measured on: "maze2d-large-v1 of D4RL"
    error: float | None = None  # the +- beside it

    def text(self) -> str:
        """As it is shown in a table."""
        return f"{self.value:g}" + ("" if self.error is None else f" ± {self.error:g}")


@dataclass(frozen=True)
class Row:
    """One method with one setting; a score is None where nothing was played, or where the task does
    not define it.
    """

    method: str  # `ldcq`, `bcq_h`, `bcq`, `bc`, `prior`, `ldgc`, `ldcp`, ...
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """What was varied, `{"horizon": 10}`: columns that all rows of a result have."""
    episode_return: Estimate | None = None  # undiscounted, normalised where the task defines that
    first_hit: Estimate | None = None
    success: float | None = None  # share of episodes
    success_score: Estimate | None = None  # 100 times that, where it is the score
    measures: Mapping[str, Value] = field(default_factory=dict)  # further measured columns
    episodes: int = 0  # played per training seed
    seeds: int = 0
    train_seconds: float | None = None
    """Wall seconds that the stages of one training seed took on average, shared ones included."""
    paper: PaperValue | None = None

    def as_json(self) -> dict[str, Any]:
        """The row of `results.json`."""
        row = asdict(self)
        return {
            "method": self.method,
            **row["settings"],
            "return": row["episode_return"],
            "first_hit": row["first_hit"],
            "success": self.success,
            "success_score": row["success_score"],
            **row["measures"],
            **{name: row[name] for name in ("episodes", "seeds", "train_seconds", "paper")},
        }


@dataclass(frozen=True)
class Difference:
    """What one method scores more than another, paired by training seed and start."""

    first: str  # the method that is ahead where a difference is positive
    second: str
    settings: Mapping[str, Scalar]  # what was varied, as in rows
    episode_return: Estimate
    first_hit: Estimate | None
    success_score: Estimate | None = None  # where it is the score: then it alone is compared

    @property
    def scores(self) -> dict[str, Estimate]:
        """By the name of the score."""
        if self.success_score is not None:
            return {"success %": self.success_score}
        known = {"return": self.episode_return, "first hit": self.first_hit}
        return {name: score for name, score in known.items() if score is not None}

    def as_json(self) -> dict[str, Any]:
        """One of `differences` in `results.json`."""
        content = asdict(self)
        return {
            **{name: content[name] for name in ("first", "second")},
            **content["settings"],
            "return": content["episode_return"],
            **{name: content[name] for name in ("first_hit", "success_score")},
        }


@dataclass(frozen=True)
class Picture:
    """A figure of a page."""

    name: str  # of the file, without its ending
    caption: str
    draw: Draw


@dataclass(frozen=True)
class Findings:
    """What an experiment returns."""

    rows: Sequence[Row]
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    """Markdown. The first is what was found, in one line, computed from the rows: the index of all
    results shows it too. Then more of what was seen; definitions; a person's note, with a date and
    a name.
    """
    artifacts: Mapping[str, str] = field(default_factory=dict)  # versions that rows come from
    differences: Sequence[Difference] = ()


@dataclass(frozen=True)
class Budget:
    """What the models of one stage took, on average."""

    stage: str  # with the implementation, where the stage has several
    models: int
    updates: float | None  # of the optimiser; None: nothing is trained, or nobody counted
    seconds: float  # wall time


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper; a module's `EXPERIMENT`."""

    name: str  # on the command line
    title: str
    shows: str  # what it is to show, in a sentence or two
    paper: str  # where the paper shows it: "Tables 1, 8"
    seeds: Mapping[Scale, int]  # training seeds, where none are asked for
    tuned: str  # what the settings were tuned on: training seeds, starts; a sentence or two
    run: Callable[[Context], Findings]
    """Raises what pipelines raise, and ConfigError where the dataset has not what is needed."""
    methods: Methods | None = None  # None: what its settings say
    settings: str = ""  # whose files in `settings` say what is run; empty: its own
    tasks: Sequence[str] = ()
    """Of benchmarks, which the files in `settings` change; several are a column of the table."""
    takes_dataset: bool = True


@dataclass(frozen=True)
class Result:
    """Findings and how they were made; what `results.json` and the page are written from."""

    experiment: Experiment
    command: str  # that makes it again
    scale: Scale
    dataset: str
    seeds: tuple[int, ...]
    findings: Findings
    settings: Mapping[str, tuple[Scalar, Scalar]]  # keys that differ from `paper`: here, there
    seconds: float  # of all stages that the findings come from, one after the other
    lost: bool  # a stage's process was killed, and its time is missing
    hardware: str
    confidence: float = 0.95  # of the intervals
    shares_models: bool = False  # evaluations of others, on the same store, played some of them
    budgets: Sequence[Budget] = ()

    def as_json(self) -> dict[str, Any]:
        """`results.json`."""
        experiment, findings = self.experiment, self.findings
        return {
            "experiment": experiment.name,
            "title": experiment.title,
            "paper": experiment.paper,
            "command": self.command,
            "scale": self.scale,
            "dataset": self.dataset,
            "seeds": list(self.seeds),
            "confidence": self.confidence,
            "rows": [row.as_json() for row in findings.rows],
            "notes": list(findings.notes),
            "differences": [difference.as_json() for difference in findings.differences],
            "settings": {
                key: {"value": value, "paper": paper}
                for key, (value, paper) in self.settings.items()
            },
            "tuned": experiment.tuned,
            "artifacts": dict(findings.artifacts),
            "pictures": [picture.name for picture in findings.pictures],
            "seconds": self.seconds,
            "budgets": [asdict(budget) for budget in self.budgets],
            "hardware": self.hardware,
            "shares_models": self.shares_models,
        }
