"""The score table of an evaluation, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Row = Mapping[str, Any]


def score_table(rows: Sequence[Row], title: str) -> Table:
    """Normalised scores with their confidence intervals, one row per method."""
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in ("return", "first hit", "success", "episodes"):
        table.add_column(column, justify="right")
    for row in rows:
        success = row["success"]
        table.add_row(
            row["method"],
            _estimate(row["return"]),
            _estimate(row["first_hit"]),
            "-" if success is None else f"{success:.2f}",
            str(row["episodes"]),
        )
    return table


def _estimate(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.1f}  [{value['ci_low']:.1f}, {value['ci_high']:.1f}]"


def score_json(rows: Sequence[Row], **context: object) -> str:
    """The rows and where they come from as one JSON object."""
    return json.dumps({"rows": list(rows), **context}, indent=2)
