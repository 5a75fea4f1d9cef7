"""Writes a result: results.json, results.csv, pictures and a Markdown page, in one folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from common.store.files import replace_atomically
from experiments.experiment import Budget, Difference, Result, Row, Scalar, Value
from services.actor.report.theme import LIGHT, to_png
from services.actor.report.wording import method_label
from services.actor.scores import Estimate

DIFFERENCES = (
    "Differences, paired by training seed and start. The first method is *ahead* or *behind* where "
    "the interval is all on one side of 0; else the question is *open*."
)
KILLED = (
    " A training process was killed outright on the way, and what it had worked on until then is "
    "missing in the times."
)
Column = tuple[str, Callable[[Row], str]]
PAGE = "README.md"
"""Under this name a folder's page is shown by itself where repositories are read."""


def write(result: Result, folder: Path) -> None:
    """Writes `results.json`, `results.csv`, `<picture>.png` and the page into `folder`.

    The JSON comes last: where it is, the rest is there as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for picture in result.findings.pictures:
        replace_atomically(folder / f"{picture.name}.png", to_png(picture.draw, LIGHT))
    replace_atomically(folder / "results.csv", csv_text(result).encode())
    replace_atomically(folder / PAGE, page(result).encode())
    content = json.dumps(result.as_json(), indent=2, allow_nan=False)
    replace_atomically(folder / "results.json", f"{content}\n".encode())


def csv_text(result: Result) -> str:
    """The rows as CSV: intervals as three columns (`return`, `return_low`, `return_high`), the
    paper's number without its error.
    """
    lines = [_flat(row.as_json()) for row in result.findings.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, _names(lines), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def page(result: Result) -> str:
    """The page: what it shows, the table, pictures, notes, and how to make it again.

    Args:
        result: Its pictures lie beside the page, under their names with `.png`.
    """
    experiment, findings = result.experiment, result.findings
    origin = (
        f"Paper: {experiment.paper}. Scale `{result.scale}`, dataset `{result.dataset}`, "
        f"training seeds {', '.join(map(str, result.seeds))}."
    )
    parts = [f"# {experiment.title}", experiment.shows, origin, table(*cells(result))]
    if findings.differences:
        parts += [DIFFERENCES, _differences(findings.differences)]
    explanations = _explanations(result)
    if explanations:
        parts.append("\n".join(f"- {text}" for text in explanations))
    for picture in findings.pictures:
        parts += [f"![{picture.caption}]({picture.name}.png)", f"*{picture.caption}*"]
    if findings.notes:
        parts += ["## What was seen", *findings.notes]
    killed = KILLED if result.lost else ""
    shared = " It shares models with other runs on the store." if result.shares_models else ""
    parts += [
        "## How it was made",
        f"```\n{result.command}\n```",
        f"All of its stages, training and playing, took {duration(result.seconds)} one after the "
        f"other.{killed}{shared} The last call ran on {result.hardware}. A second run on the same "
        "store trains nothing.",
    ]
    if result.budgets:
        parts.append(_budgets(result.budgets))
    parts.append(experiment.tuned)
    if result.settings:
        parts += [
            "Every setting that differs from the preset `paper`, beside what the tables above say:",
            table(
                ["setting", "value", "paper"],
                [[f"`{key}`", *map(_setting, values)] for key, values in result.settings.items()],
            ),
        ]
    if findings.artifacts:
        text = "Artifacts. Equal versions are equal results, bit for bit:"
        parts += [text, _pairs("what", "version", findings.artifacts)]
    return "\n\n".join(parts) + "\n"


def cells(result: Result) -> tuple[list[str], list[list[str]]]:
    """The score table's header and lines, as text."""
    rows = result.findings.rows
    columns = _columns(rows)
    return [name for name, _ in columns], [[show(row) for _, show in columns] for row in rows]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [list(header), ["---"] * len(header), *map(list, lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def shown(value: Value) -> str:
    """A value as a reader wants it: `29.6 [27.9, 31.3]`, `0.03`, `-`."""
    if value is None:
        return "-"
    if isinstance(value, Estimate):
        low, high = _number(value.ci_low), _number(value.ci_high)
        return f"{_number(value.mean)} [{low}, {high}]"
    if isinstance(value, float):
        return _number(value)
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _budgets(budgets: Sequence[Budget]) -> str:
    lines = [
        [
            budget.stage,
            str(budget.models),
            "-" if budget.updates is None else f"{budget.updates:,.0f}",
            duration(budget.seconds),
        ]
        for budget in budgets
    ]
    return table(["stage", "times", "updates of each", "wall time of each"], lines)


def _setting(value: Scalar) -> str:
    return "-" if value is None else f"`{value}`"


def _differences(differences: Sequence[Difference]) -> str:
    """One line for each difference, with what its interval says."""
    settings, scores = (
        _names(getattr(each, name) for each in differences) for name in ("settings", "scores")
    )
    lines = [
        [
            f"{method_label(each.first)} - {method_label(each.second)}",
            *(shown(each.settings.get(name)) for name in settings),
            *(verdict(each.scores[name]) if name in each.scores else "-" for name in scores),
        ]
        for each in differences
    ]
    return table(["difference", *(name.replace("_", " ") for name in settings), *scores], lines)


def verdict(difference: Estimate) -> str:
    """A difference and its interval in words: `5.0 [1.0, 9.0], ahead`."""
    return f"{shown(difference)}, {standing(difference)}"


def standing(difference: Estimate) -> str:
    """`ahead` or `behind` where the interval is all on one side of 0; else `open`."""
    return "ahead" if difference.ci_low > 0 else "behind" if difference.ci_high < 0 else "open"


def _flat(row: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in row.items():
        if not isinstance(value, dict):
            flat[name] = value
        elif "mean" in value:
            flat[name] = value["mean"]
            flat |= {f"{name}_low": value["ci_low"], f"{name}_high": value["ci_high"]}
        else:
            flat[name] = value["value"]
    return flat


def _columns(rows: Sequence[Row]) -> list[Column]:
    columns: list[Column] = [("method", lambda row: method_label(row.method))]
    columns += [_named(name, lambda row: row.settings) for name in _names(r.settings for r in rows)]
    optional: list[tuple[str, Callable[[Row], Value]]] = [
        ("success %", lambda row: row.success_score),
        ("return", lambda row: row.episode_return),
        ("first hit", lambda row: row.first_hit),
        ("success", lambda row: row.success),
    ]
    columns += [
        (name, lambda row, get=get: shown(get(row)))  # type: ignore[misc]
        for name, get in optional
        if any(get(row) is not None for row in rows)
    ]
    columns += [_named(name, lambda row: row.measures) for name in _names(r.measures for r in rows)]
    if any(row.paper for row in rows):
        columns.append(("paper (other data)", lambda r: r.paper.text() if r.paper else "-"))
    if any(row.episodes for row in rows):
        columns.append(("episodes", lambda row: str(row.episodes)))
    columns.append(("seeds", lambda row: str(row.seeds)))
    if any(row.train_seconds is not None for row in rows):
        columns.append(("training", _training))
    return columns


def _training(row: Row) -> str:
    return "-" if row.train_seconds is None else duration(row.train_seconds)


def _named(name: str, get: Callable[[Row], Mapping[str, Value]]) -> Column:
    return name.replace("_", " "), lambda row: shown(get(row).get(name))


def _names(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _explanations(result: Result) -> list[str]:
    rows = result.findings.rows
    notes = []
    if any(row.episode_return or row.first_hit for row in rows):
        notes.append(
            f"Mean [{result.confidence:.0%} interval]. {_intervals(len(result.seeds))} Episode i "
            "has the same start for every seed and method. Episodes are per training seed. Every "
            "model is the last of its training."
        )
    if any(row.first_hit for row in rows):
        notes.append(
            "*return* is the true return of whole episodes. *first hit* counts an episode as if "
            "the agent stayed at the goal from its first reward on, as the authors' release does."
        )
    if any(row.success_score for row in rows):
        notes.append("*success %* is the score: 100 times the share of episodes with success.")
    papers = [row.paper for row in rows if row.paper]
    if papers:
        sources = dict.fromkeys(f"{paper.source}, {paper.data}" for paper in papers)
        notes.append(
            f"The paper's numbers come from other data ({'; '.join(sources)}). This program did "
            "not measure them."
        )
    if any(row.train_seconds is not None for row in rows):
        notes.append(
            "*training* is the wall time of a method's own stages for one training seed; a "
            "shared stage counts for each method. Stages of several methods run in parallel."
        )
    return notes


def _intervals(seeds: int) -> str:
    if seeds == 1:
        return "The interval is a bootstrap over the episodes of the one training seed."
    return (
        f"Intervals are Student's, over {seeds} training seeds and over the starts that they share "
        "(`experiments/intervals.py`)."
    )


def _pairs(what: str, value: str, known: Mapping[str, str]) -> str:
    return table([what, value], [[name, f"`{found}`"] for name, found in known.items()])


def _number(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
