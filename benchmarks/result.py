"""What a benchmark returns, and how it is shown; `python -m benchmarks.result runs/bench` rewrites
`RESULTS.md`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "RESULTS.md"
COMMANDS = {
    "sampler": "ldcq bench sampler",
    "solvers": "ldcq bench solvers configs/demo.yaml --store runs/demo",
    "serving": "ldcq bench serving",
    "replicas": "ldcq bench replicas",
    "learner": "ldcq bench learner",
    "targets": "ldcq bench targets",
    "training": "ldcq bench training",
}
"""What made each result, in the order they are shown."""


def machine() -> dict[str, Any]:
    """The machine that figures were taken on: processor, cores, threads, torch, device."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **gpu,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class BenchmarkResult:
    """The figures of one benchmark."""

    name: str  # on the command line
    summary: dict[str, float]  # the figures it is judged by
    rows: Sequence[dict[str, Any]]  # of the table, all with the same keys
    notes: Sequence[str] = ()  # for the reader of the table
    machine: dict[str, Any] = field(default_factory=machine)

    def json(self) -> str:
        """One JSON object."""
        content = asdict(self)
        return json.dumps({"benchmark": content.pop("name"), **content}, indent=2)

    def print(self, console: Console) -> None:
        """A table, the summary and the notes."""
        table = Table(title=f"ldcq bench {self.name}", title_justify="left")
        columns = list(self.rows[0]) if self.rows else []
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for row in self.rows:
            table.add_row(*(_shown(row[column]) for column in columns))
        console.print(table)
        for line in (*(f"{k}: {_shown(value)}" for k, value in self.summary.items()), *self.notes):
            console.print(line, highlight=False)
        console.print(", ".join(f"{key} {value}" for key, value in self.machine.items()))


def _shown(value: object, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def record(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of figures.

    Args:
        results: The JSON of each benchmark by name; those left out are left out.

    Raises:
        ValueError: No result, or they are of several machines, whose figures do not compare.
    """
    machines = {
        # Threads are each benchmark's own.
        json.dumps({**result["machine"], "threads": None}, sort_keys=True)
        for result in results.values()
    }
    if len(machines) != 1:
        raise ValueError(f"results are of {len(machines)} machines, expected 1")
    machine = json.loads(machines.pop())
    parts = [
        "# Benchmark results",
        "Written by `make bench`, which runs one benchmark after the other: "
        f"{machine['processor']}, {machine['cores']} cores, {machine.get('gpu', 'no GPU')}, torch "
        f"{machine['torch']}, Python {machine['python']}; one thread unless a table says "
        "otherwise. Compare ratios: the two sides of each are measured in turns within one run.",
    ]
    for name, command in COMMANDS.items():
        if name in results:
            parts += section(name, command, results[name])
    return "\n\n".join(parts) + "\n"


def section(name: str, command: str, result: Mapping[str, Any]) -> list[str]:
    figures = ", ".join(
        f"`{figure}` **{_shown(value, 3)}**" for figure, value in result["summary"].items()
    )
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    columns = list(rows[0])
    header = [column.replace("_", " ") for column in columns]
    lines = [header, ["---"] * len(columns)]
    lines += [[_shown(row[column], 3) for column in columns] for row in rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return [f"## {name}", f"`{command}`", figures, table, "\n".join(result["notes"])]


def main() -> None:
    """Reads `<name>.json` of every benchmark in a folder and rewrites the page."""
    folder = Path(sys.argv[1])
    found = {name: folder / f"{name}.json" for name in COMMANDS}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}
    RESULTS.write_text(record(results))


if __name__ == "__main__":
    main()
