"""The page over all results: `python -m experiments.index docs/results`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from experiments.page import PAGE, duration, shown, table
from experiments.registry import MODULES
from services.actor.scores import Estimate


def index(folder: Path) -> str:
    """One line per experiment whose results are in `folder`, in the order they are run."""
    found = {name: folder / name / "results.json" for name in MODULES}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.is_file()}
    header = ["experiment", "paper", "scale", "seeds", "time", "result"]
    parts = [
        "# Results",
        "`make results` writes these pages. Each page has the command that makes it again, a table "
        "with intervals, pictures and the paper's numbers.",
        table(header, [_line(name, result) for name, result in results.items()]),
        "Scores are normalised as D4RL does, mean [95% interval]. *first hit* counts an episode "
        "as if the agent stayed at the goal from its first reward on. *time* is that of all stages "
        "of all seeds from nothing, training and playing, one after the other.",
    ]
    return "\n\n".join(parts) + "\n"


def _line(name: str, result: dict[str, Any]) -> list[str]:
    return [
        f"[{result['title']}]({name}/{PAGE})",
        result["paper"],
        result["scale"],
        str(len(result["seeds"])),
        duration(result["seconds"]),
        _summary(result["rows"]) or "see its figures",
    ]


def _summary(rows: list[dict[str, Any]]) -> str:
    """The scores of methods that have one row each; of others the page says more."""
    if len({row["method"] for row in rows}) < len(rows):
        return ""
    return ", ".join(
        f"{row['method']} {called}{shown(Estimate(**row[key]))}"
        for row in rows
        for key, called in [_score(row)]
        if row[key]
    )


def _score(row: dict[str, Any]) -> tuple[str, str]:
    """The key of the row's score, and what it is called before its number."""
    known = {"success_score": "success % ", "first_hit": "first hit "}
    return next(((key, called) for key, called in known.items() if row.get(key)), ("return", ""))


def main(arguments: list[str]) -> int:
    """Writes the index into the folder named; returns the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print(f"usage: python -m experiments.index FOLDER, got {arguments}", file=sys.stderr)
        return 2
    path = Path(arguments[0]) / PAGE
    path.write_text(index(path.parent))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
