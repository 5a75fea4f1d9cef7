"""Writes a result: results.json, results.csv, pictures and a Markdown page, in one folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from common.store.files import replace_atomically
from experiments.result import Result, Row, Scalar, Value
from services.actor.report.theme import LIGHT, to_png
from services.actor.report.wording import method_labels
from services.actor.scores import Estimate

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
    names: dict[str, None] = {}
    for line in lines:
        names |= dict.fromkeys(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def page(result: Result) -> str:
    """The page: what it shows, the table, pictures, notes, and how to make it again.

    Args:
        result: Its pictures lie beside the page, under their names with `.png`.
    """
    findings = result.findings
    parts = [f"# {result.title}", result.shows, _origin(result), score_table(result)]
    parts += [f"- {note}" for note in _explanations(result)]
    for picture in findings.pictures:
        parts += [f"![{picture.caption}]({picture.name}.png)", f"*{picture.caption}*"]
    if findings.notes:
        parts += ["## What was seen", *findings.notes]
    parts += ["## How it was made", _facts(result)]
    if findings.settings:
        parts += ["Settings:", table(["setting", "value"], _pairs(findings.settings))]
    if findings.artifacts:
        text = "Artifacts. Equal versions are equal results, bit for bit:"
        parts += [text, table(["what", "version"], _pairs(findings.artifacts))]
    return "\n\n".join(_joined_lists(parts)) + "\n"


def score_table(result: Result) -> str:
    """The rows, one column for each thing that any of them has."""
    return table(*cells(result))


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


def _flat(row: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in row.items():
        if not isinstance(value, dict):
            flat[name] = value
        elif "mean" in value:
            flat |= {name: value["mean"]}
            flat |= {f"{name}_low": value["ci_low"], f"{name}_high": value["ci_high"]}
        else:
            flat[name] = value["value"]
    return flat


def _columns(rows: Sequence[Row]) -> list[Column]:
    labels = method_labels([{"method": row.method} for row in rows])
    columns: list[Column] = [("method", lambda row: labels[row.method])]
    columns += [_named(name, lambda row: row.settings) for name in _names(r.settings for r in rows)]
    optional: list[tuple[str, Callable[[Row], Value]]] = [
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


def _names(mappings: Iterable[Mapping[str, Value]]) -> list[str]:
    names: dict[str, None] = {}
    for mapping in mappings:
        names |= dict.fromkeys(mapping)
    return list(names)


def _explanations(result: Result) -> list[str]:
    findings, rows = result.findings, result.findings.rows
    notes = []
    if any(row.episode_return or row.first_hit for row in rows):
        notes.append(
            f"Mean [{findings.confidence:.0%} interval]. Intervals are bootstrapped over training "
            "seeds and, inside them, episodes. Episode i has the same start for every seed and "
            "method. Episodes are per training seed. Every model is the last of its training."
        )
    if any(row.first_hit for row in rows):
        notes.append(
            "*return* is the true return of whole episodes. *first hit* counts an episode as if "
            "the agent stayed at the goal from its first reward on, as the authors' release does."
        )
    if any(row.paper for row in rows):
        sources = dict.fromkeys(
            f"{row.paper.source}, {row.paper.data}" for row in rows if row.paper is not None
        )
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


def _origin(result: Result) -> str:
    seeds = ", ".join(map(str, result.seeds))
    return (
        f"Paper: {result.paper}. Scale `{result.scale}`, dataset `{result.dataset}`, "
        f"training seeds {seeds}."
    )


def _facts(result: Result) -> str:
    shared = " It reused models of other experiments on the store." if result.shared_store else ""
    return (
        f"```\n{result.command}\n```\n\n"
        f"It took {duration(result.wall_seconds)} on {result.hardware}.{shared} "
        "A second run on the same store trains nothing."
    )


def _pairs(values: Mapping[str, Scalar] | Mapping[str, str]) -> list[list[str]]:
    return [[name, f"`{value}`"] for name, value in values.items()]


def _number(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _joined_lists(parts: Sequence[str]) -> list[str]:
    """Items of one list under each other, without empty lines between them."""
    joined: list[str] = []
    for part in parts:
        if part.startswith("- ") and joined and joined[-1].startswith("- "):
            joined[-1] += f"\n{part}"
        else:
            joined.append(part)
    return joined
