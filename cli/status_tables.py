"""How `ldcq status` looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.readings import INTERVAL, PRIORITIES
from cli.terminal import last_loss
from common.stages import STAGES

Row = Mapping[str, Any]


def artifact_table(artifacts: Iterable[Row], url: str) -> Table:
    """The current artifacts."""
    table = _table(f"Artifacts in {url}", ("kind", "variant", "version", "made from"))
    for item in artifacts:
        parents = ", ".join(f"{kind} {version}" for kind, version in item["parents"].items())
        table.add_row(item["kind"], item["variant"], item["version"], parents)
    return table


def run_tables(overview: Row) -> Iterator[Table | str]:
    """Stages, prior servers, the actor's episodes, what processes wait for or complain of, and who
    did not answer, where there are any.
    """
    if overview["stages"]:
        yield _stage_table(overview["stages"])
    if overview["priors"]:
        yield _prior_table(overview["priors"])
    for row in overview["actors"]:
        played = (
            f"{method} {numbers['mean_return']:.4g} ({_success(numbers)}"
            f"{numbers['episodes']} episodes)"
            for method, numbers in row["methods"].items()
        )
        yield escape(f"{row['process']}: mean return {', '.join(played)}")
    for said, processes in _said([*overview["stages"], *overview["priors"]]).items():
        yield escape(f"{', '.join(processes)}: {said}")
    if overview["unreachable"]:
        silent = (f"{address} ({why})" for address, why in overview["unreachable"].items())
        yield escape(f"no metrics from {', '.join(silent)}")


def _success(numbers: Row) -> str:
    return f"success {numbers['success']:.0%}, " if "success" in numbers else ""


def _stage_table(rows: Iterable[Row]) -> Table:
    columns = ("process", "state", "step", "steps/s", "loss", "q_mean", "td_error")
    table = _table("Stages", columns, numbers_from=2)
    for row in rows:
        metrics, total = row.get("metrics", {}), row.get("total")
        table.add_row(
            escape(_stage_name(row)),
            _short(row["state"]),
            f"{row['step']}/{total}" if total else "",
            _number(row.get("rate")) if row["state"] == "running" else "",
            _number(last_loss(metrics)),
            _number(metrics.get("q_mean")),
            _number(metrics.get("td_error")),
        )
    return table


def _prior_table(rows: Iterable[Row]) -> Table:
    columns = ("process", "state", "model", "rows", "rows/s", "pending", "p95 ms", "dropped")
    table = _table("Prior servers", columns, numbers_from=3)
    for row in rows:
        known = "capacity_rows" in row
        table.add_row(
            escape(row["process"]),
            _short(row["state"]),
            row.get("version", "")[:8],
            _number(row.get("rows")),
            _number(row.get("rows_per_second")),
            f"{_number(row['pending_rows'])}/{_number(row['capacity_rows'])}" if known else "",
            " | ".join(_milliseconds(row["p95_seconds"][name]) for name in PRIORITIES)
            if known
            else "",
            str(sum(row["rejections"].values())) if known else "",
        )
    table.caption = (
        f"rows/s over {INTERVAL:g} s; the rest since the server started; "
        f"p95 of calls: {' | '.join(PRIORITIES)}"
    )
    return table


def _said(rows: Iterable[Row]) -> dict[str, list[str]]:
    """What is worth a line of its own, each with the processes that say it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        state, message = row["state"], row.get("message")
        if _short(state) != state:
            found.setdefault(state, []).append(row["process"])
        elif state == "waiting" and message:
            found.setdefault(message, []).append(row["process"])
        elif state == "failed" and message:
            found.setdefault(f"failed: {message}", []).append(row["process"])
    return found


def _table(title: str, columns: Sequence[str], numbers_from: int | None = None) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # what a process of a variant says fits into 80 columns
        header_style="dim",
    )
    last = 0 if numbers_from is None else numbers_from  # that is not broken into lines
    for index, column in enumerate(columns):
        number = numbers_from is not None and index >= numbers_from
        table.add_column(
            column, justify="right" if number else "left", overflow="fold", no_wrap=index <= last
        )
    return table


def _short(state: str) -> str:
    """The state without its reason."""
    return state.partition(":")[0]


def _stage_name(row: Row) -> str:
    """The process, and its stage where the name does not say it."""
    process, stage = row["process"], row.get("stage", "")
    usual = STAGES[stage].process if stage in STAGES else stage
    said = process.replace("-", "_").startswith((stage, usual))
    return process if said else f"{process} ({stage})"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else _number(1000 * seconds)


def _number(value: float | None) -> str:
    """Three digits, with k, M or G where they are too few."""
    if value is None:
        return ""
    for unit in ("", "k", "M"):
        if not abs(value) >= 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"
