"""What a benchmark returns, and how it is shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


def machine() -> dict[str, Any]:
    """The machine that figures were taken on: processor, cores, threads, torch, device."""
    description: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name()
    return description


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class BenchmarkResult:
    """The figures of one benchmark.

    Attributes:
        name: Its name on the command line.
        summary: The figures it is judged by, by name.
        rows: What was measured, one mapping per row of the table, all with the same keys.
        notes: Sentences for the reader of the table.
        machine: See `machine`.
    """

    name: str
    summary: dict[str, float]
    rows: Sequence[dict[str, Any]]
    notes: Sequence[str] = ()
    machine: dict[str, Any] = field(default_factory=machine)

    def json(self) -> str:
        """One JSON object."""
        return json.dumps(
            {
                "benchmark": self.name,
                "summary": self.summary,
                "rows": list(self.rows),
                "notes": list(self.notes),
                "machine": self.machine,
            },
            indent=2,
        )

    def print(self, console: Console) -> None:
        """A table, the summary and the notes."""
        table = Table(title=f"ldcq bench {self.name}", title_justify="left")
        columns = list(self.rows[0]) if self.rows else []
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for row in self.rows:
            table.add_row(*(_shown(row[column]) for column in columns))
        console.print(table)
        for name, value in self.summary.items():
            console.print(f"{name}: {_shown(value)}", highlight=False)
        for note in self.notes:
            console.print(note, highlight=False)
        console.print(", ".join(f"{key} {value}" for key, value in self.machine.items()))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
