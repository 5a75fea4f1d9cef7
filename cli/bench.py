"""`ldcq bench`: measures, side by side in one run, and prints ratios."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from benchmarks.result import BenchmarkResult

app = typer.Typer(help="Measure speed, as ratios taken side by side.", no_args_is_help=True)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def run(name: str, as_json: bool, **arguments: Any) -> None:
    """Runs `benchmarks.<name>.run(**arguments)` and prints what came of it."""
    # Imported here: a benchmark brings torch and the services.
    result: BenchmarkResult = importlib.import_module(f"benchmarks.{name}").run(**arguments)
    if as_json:
        print(result.json())
    else:
        result.print(Console())
