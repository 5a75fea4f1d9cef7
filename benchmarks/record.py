"""The page of benchmark results: `python -m benchmarks.record runs/bench` writes `RESULTS.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"
COMMANDS = {
    "sampler": "ldcq bench sampler",
    "solvers": "ldcq bench solvers configs/demo.yaml --store runs/demo",
    "serving": "ldcq bench serving",
    "replicas": "ldcq bench replicas",
    "learner": "ldcq bench learner",
    "training": "ldcq bench training",
}
"""What made each result, in the order they are shown."""


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
            parts += _section(name, command, results[name])
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: str, result: Mapping[str, Any]) -> list[str]:
    figures = ", ".join(
        f"`{figure}` **{_shown(value)}**" for figure, value in result["summary"].items()
    )
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    columns = list(rows[0])
    header = [column.replace("_", " ") for column in columns]
    lines = [header, ["---"] * len(columns)]
    lines += [[_shown(row[column]) for column in columns] for row in rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return [f"## {name}", f"`{command}`", figures, table, "\n".join(result["notes"])]


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Reads `<name>.json` of every benchmark in a folder and rewrites the page."""
    folder = Path(sys.argv[1])
    found = {name: folder / f"{name}.json" for name in COMMANDS}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}
    RESULTS.write_text(record(results))


if __name__ == "__main__":
    main()
