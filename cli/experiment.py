"""`ldcq experiment`: one table or figure of the paper, from data to its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import pipeline
from cli.options import one_of
from common.store import Store
from experiments import NAMES
from ldcq.config import Config

if TYPE_CHECKING:
    from experiments.experiment import Result

OUT = "runs/experiments"


class LocalPipeline:
    """Runs configurations as sets of local processes on one store, with progress on a console."""

    def __init__(self, store_url: str, console: Console) -> None:
        self.store_url, self.console = store_url, console

    def run(self, config: Config) -> str:
        """Trains what is missing and plays; returns the evaluation's version."""
        results: list[pipeline.RunResult] = []
        pipeline.run(config, self.store_url, 1, False, self.console, results.append)
        return results[-1].evaluation_version

    def evaluate(self, config: Config) -> str:
        """Plays with models that are there; returns the evaluation's version."""
        return pipeline.evaluate(config, self.store_url, 1, self.console).evaluation_version

    def train(self, config: Config, stage: str, variant: str = "main") -> str:
        """Trains one stage; returns its version."""
        return pipeline.train(stage, config, self.store_url, variant, 1, self.console)

    def say(self, text: str) -> None:
        """A line between the progress of two runs."""
        self.console.print(f"[bold]{escape(text)}[/]", highlight=False)


def experiment(
    name: Annotated[str, one_of("NAME", NAMES)],
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training seeds; default: the experiment's own."),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="smoke: a quick check; small: for two CPU cores; full: the paper's settings.",
            metavar="smoke|small|full",
        ),
    ] = "small",
    dataset: Annotated[
        str | None, typer.Option(help="Minari id or D4RL file; default: the experiment's own.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help=f"Folder of the results; default: {OUT}/NAME.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Store of the trained models; default: the folder `store` in --out. Experiments "
            "with the same store share them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json.")] = False,
) -> None:
    """Run an experiment of the paper: train every seed, play, and write tables, plots and a page.

    The same command resumes an interrupted run. A finished run is not repeated.
    """
    # Imported here: the experiments bring torch and the services.
    from experiments import registry
    from experiments.configurations import third_party_data

    console = Console(stderr=True)
    registry.find(name)
    folder = Path(out or f"{OUT}/{name}").expanduser()
    url = store or str(folder / "store")
    result = registry.perform(
        name,
        scale=scale,
        seeds=seeds,
        dataset=dataset,
        folder=folder,
        pipeline=LocalPipeline(url, console),
        store=Store(url),
        third_party=third_party_data(),
    )
    if as_json:
        print(json.dumps(result.as_json(), indent=2), flush=True)
    else:
        _show(result, folder)


def _show(result: Result, folder: Path) -> None:
    from experiments.page import cells

    out = Console()
    if not out.is_terminal:
        out.width = 200  # what is written to a file is not folded
    header, lines = cells(result)
    table = Table(title=result.experiment.title, title_justify="left")
    for number, column in enumerate(header):
        table.add_column(column, justify="right" if number else "left")
    for line in lines:
        table.add_row(*map(escape, line))
    out.print(table)
    out.print(f"Results: {folder / 'results.json'}, page: {folder / 'README.md'}", soft_wrap=True)
