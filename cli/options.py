"""Arguments and options that several commands of `ldcq` have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.plan import MOST_REPLICAS
from common.store import local_root

DEFAULT_STORE = "runs/default"
ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="A YAML file, a preset (demo, paper, small), or a task (`ldcq tasks`).",
        metavar="CONFIG",
    ),
]
StoreOption = Annotated[str, typer.Option("--store", help="Folder of the shared store.")]
LocalStoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        parser=local_root,
        metavar="STORE",
        help="The shared store; its folder `datasets` holds them, for a store on S3 the scratch "
        "folder of this machine.",
    ),
]
"""Where datasets are."""
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key; repeatable."),
]
ReplicasOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=MOST_REPLICAS,
        help="Prior servers per pipeline; 0: critic and actor draw in their own processes.",
    ),
]
VariantOption = Annotated[str, typer.Option(help="Pipeline of the configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def one_of(metavar: str, choices: Iterable[str]) -> Any:
    """An argument that is one of these."""
    known = list(choices)

    def check(given: str) -> str:
        if given not in known:
            raise typer.BadParameter(f"{given!r} is not one of {', '.join(map(repr, known))}.")
        return given

    said = f"{', '.join(known)}."
    return typer.Argument(callback=check, metavar=metavar, help=said, autocompletion=lambda: known)
