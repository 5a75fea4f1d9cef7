"""`ldcq conformance`: tests that a server keeps the contract of a service."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console

from cli.options import JsonOption
from common.rpc.conformance import check_prior

app = typer.Typer(help="Check a foreign implementation against the contracts.")


@app.callback()
def group() -> None:
    """Check a foreign implementation against the contracts."""


@app.command(name="prior", epilog="Example: ldcq conformance prior localhost:50051")
def prior(
    target: Annotated[str, typer.Argument(help="Address of the server: host:port or unix:/path.")],
    as_json: JsonOption = False,
) -> None:
    """Check that a server is a prior: one line for each promise of PriorService."""
    results = []
    for result in check_prior(target):
        results.append(result)
        if not as_json:
            mark = "[green]passed[/]" if result.passed else "[red]FAILED[/]"
            Console(highlight=False).print(f"{mark}  {result.name}  [dim]{result.detail}[/]")
    passed = all(result.passed for result in results)
    if as_json:
        checks = [dataclasses.asdict(result) for result in results]
        print(json.dumps({"target": target, "passed": passed, "checks": checks}, indent=2))
    raise typer.Exit(0 if passed else 1)
