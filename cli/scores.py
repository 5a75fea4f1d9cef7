"""Scores as `ldcq run` and `ldcq evaluate` print them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import pipeline, tasks
from ldcq.config import Config


def show_scores(as_json: bool, config: Config, result: pipeline.RunResult) -> None:
    """Prints the scores, those of the paper where it is one of its tasks, and the report's path."""
    if as_json:
        print(json.dumps(asdict(result), indent=2, default=str), flush=True)
        return
    out = Console()
    if result.rows:
        out.print(score_table(result.rows, result.normalised))
        if paper := tasks.paper_line(config):
            out.print(paper, style="dim", markup=False)
    else:
        out.print(
            "Nothing was scored: there is no environment to play in, or no method to play. The "
            "models are in the store; `ldcq serve prior` and `ldcq serve actor` serve the policy."
        )
    if result.nothing_trained:
        out.print("Nothing was trained: the store already held every artifact of this run.")
    if result.report:
        out.print(f"Report: {result.report}", soft_wrap=True)


def score_table(rows: Sequence[Mapping[str, Any]], normalised: bool) -> Table:
    """Scores with intervals over episodes, one row per method; what they are in the title."""
    by_success = any(row.get("success_score") for row in rows)
    scores = "Normalised scores" if normalised else "Scores, not normalised"
    if by_success:
        scores = "Score: success, % of episodes"
    title = escape(f"{scores}, mean [interval over episodes]")
    table = Table(title=title, title_justify="left")
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {}
    if by_success:
        columns["success %"] = lambda row: _estimate(row.get("success_score"))
        columns["normalised return" if normalised else "return"] = lambda row: _estimate(
            row["return"]
        )
    else:
        columns["return"] = lambda row: _estimate(row["return"])
        columns["first hit"] = lambda row: _estimate(row["first_hit"])
        columns["success"] = lambda row: "-" if row["success"] is None else f"{row['success']:.2f}"
    columns["episodes"] = lambda row: str(row["episodes"])
    table.add_column("method")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["method"], *(get(row) for get in columns.values()))
    return table


def _estimate(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.1f}  [{value['ci_low']:.1f}, {value['ci_high']:.1f}]"
