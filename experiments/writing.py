"""Writes a result: results.json, results.csv, pictures and a page, in one folder."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from experiments.page import page
from experiments.result import Result
from services.actor.report.theme import LIGHT, to_png

PAGE = "README.md"
"""Under this name a folder's page is shown by itself where repositories are read."""


def write(result: Result, folder: Path) -> None:
    """Writes `results.json`, `results.csv`, `<picture>.png` and the page into `folder`.

    The JSON comes last: where it is, the rest is there as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for picture in result.findings.pictures:
        _replace(folder / f"{picture.name}.png", to_png(picture.draw, LIGHT))
    _replace(folder / "results.csv", csv_text(result).encode())
    _replace(folder / PAGE, page(result).encode())
    content = json.dumps(result.as_json(), indent=2, allow_nan=False)
    _replace(folder / "results.json", f"{content}\n".encode())


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


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
