"""`ldcq tasks`: the benchmarks' tasks that can be run by name, and what each needs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.store.datasets import dataset_path
from ldcq.config import Config, ConfigError, PolicyConfig, load, tasks

PACKAGES = {
    "box2d": "Box2D",
    "data": "minari",
    "maze": "gymnasium_robotics",
    "ogbench": "ogbench",
}
"""A package that each extra of the tasks brings."""
CACHES = {".hdf5": "~/.d4rl/datasets", ".npz": "~/.ogbench/data"}
"""Where D4RL and OGBench keep what they download."""


def show(name: str | None, store: Path, as_json: bool, console: Console) -> None:
    """Prints all tasks as a table, or all that is known of one.

    Args:
        name: Of one task; None: all.
        store: Generated and imported datasets are in its folder `datasets`.
        as_json: Print one JSON object.
        console: Where tables go.

    Raises:
        ConfigError: There is no such task.
    """
    if name is not None and name not in tasks():
        load(name)  # says which are near
        raise ConfigError(f"{name!r} is no task; `ldcq tasks` lists them")
    names = tasks() if name is None else [name]
    rows = [_row(each, load(each), store) for each in names]
    if as_json:
        typer.echo(json.dumps({"tasks": rows}))
    elif name:
        for key, value in _details(rows[0]).items():
            console.print(f"{key}: {value}", soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(_table(rows))
        for extra in sorted({row["extra"] for row in rows if not row["installed"]}):
            said = f"[{extra}]: in brackets, not installed: pip install 'ldcq[{extra}]'"
            console.print(said, style="dim", markup=False)
        console.print("The extra maze is that of all tasks in MuJoCo.", style="dim")
        console.print(
            "`ldcq run NAME --set data.dataset=FILE` takes the file of D4RL or OGBench. `ldcq "
            "tasks NAME` says where data are, and what makes a score another than the paper's.",
            style="dim",
        )


def paper_line(config: Config) -> str:
    """The paper's scores of a task and what to know of them; empty without any."""
    if config.task is None or not config.task.paper:
        return ""
    scores = ", ".join(f"{policy} {_score(value)}" for policy, value in config.task.paper.items())
    note = f"; {config.task.note}" if config.task.note else ""
    return f"The paper has {scores} ({config.task.citation}){note}."


def _row(name: str, config: Config, store: Path) -> dict[str, Any]:
    task, data = config.task, config.data
    assert task is not None, f"task {name} has no section `task`"
    return {
        "name": name,
        "family": task.family,
        "benchmark": task.benchmark,
        "dataset": data.dataset,
        "here": [str(path) for path in _here(config, store)],
        "minari": data.dataset if data.download and not data.is_file else None,
        "url": task.url,
        "generate": _making(name, config),
        "extra": task.extra,
        "installed": importlib.util.find_spec(PACKAGES[task.extra]) is not None,
        "horizon": config.horizon,
        "paper": task.paper,
        "citation": task.citation,
        "note": task.note,
    }


def _making(name: str, config: Config) -> str | None:
    """The commands that make data of the kind and run the task on them."""
    made = config.task.generated if config.task else None
    if made is None:
        return None
    files = " --policy FILE" if isinstance(made.by, PolicyConfig) else ""
    command = made.command or f"ldcq data generate {name}{files}"
    return f"{command}, then {run_on(name, made.dataset)}"


def run_on(name: str, dataset: str) -> str:
    """The command that runs a task on that dataset."""
    return f"ldcq run {name} --set data.dataset={dataset}"


def _here(config: Config, store: Path) -> Iterable[Path]:
    """Where the task's data are on this machine, the configured ones first."""
    assert config.task is not None
    if config.data.is_file:
        found = [Path(config.data.dataset).expanduser()]
    else:
        folder = dataset_path(store, config.data.dataset)
        found = [folder] if folder is not None else []
    if config.task.generated is not None:
        folder = dataset_path(store, config.task.generated.dataset)
        found += [folder] if folder is not None else []
    if config.task.url is not None:
        file = config.task.url.rpartition("/")[2]
        found.append(Path(CACHES[Path(file).suffix]).expanduser() / file)
    return [path for path in dict.fromkeys(found) if path.exists()]


def _table(rows: Iterable[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in ("task", "family", "here", "download", "make", "extra"):
        table.add_column(column, no_wrap=True)
    table.add_column("paper", justify="right", no_wrap=True)
    for row in rows:
        sources = ("Minari", row["minari"]), ("file", row["url"])
        table.add_row(
            row["name"],
            row["family"],
            "yes" if row["here"] else "-",
            "/".join(source for source, there in sources if there),
            "yes" if row["generate"] else "-",
            escape(row["extra"] if row["installed"] else f"[{row['extra']}]"),
            _score(row["paper"].get("ldcq", ())),
        )
    return table


def _details(row: dict[str, Any]) -> dict[str, str]:
    missing = "" if row["installed"] else f" (missing: pip install 'ldcq[{row['extra']}]')"
    shown = {
        "task": row["name"],
        "in its benchmark": row["benchmark"],
        "dataset": row["dataset"],
        "on this machine": ", ".join(row["here"]) or "nothing",
        "Minari": row["minari"] and f"{row['minari']}, downloaded where it is not here",
        "file": row["url"],
        "generated by": row["generate"],
        "extra": row["extra"] + missing,
        "H": str(row["horizon"]),
        "the paper": ", ".join(f"{who} {_score(value)}" for who, value in row["paper"].items()),
        "its place there": row["citation"],
        "note": row["note"],
    }
    return {key: value for key, value in shown.items() if value}


def _score(value: Sequence[float]) -> str:
    return " ± ".join(f"{number:g}" for number in value) or "-"
