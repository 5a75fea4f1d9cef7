"""The `ldcq` command: a subcommand parses its options, calls one function, prints the result."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cli import bench, conformance, data, experiment, pipeline, scale, status, tasks
from cli.checks import check_priors
from cli.interrupts import Interrupted
from cli.options import (
    DEFAULT_STORE,
    ConfigArgument,
    JsonOption,
    LocalStoreOption,
    ReplicasOption,
    SetOption,
    StoreOption,
    VariantOption,
    one_of,
)
from cli.plan import MOST_REPLICAS
from cli.scores import show_scores
from cli.supervisor import RunError
from common.rpc.entry import EXIT_REFUSED, explanation, run_service
from common.stages import STAGES, TRAINED
from ldcq.config import dump, load

app = typer.Typer(
    help="Offline reinforcement learning with latent diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data", help="Generate, import and show datasets.")
app.add_typer(conformance.app, name="conformance")
console = Console(stderr=True)


SERVED = {stage.serves: stage.module for stage in STAGES.values() if stage.serves}
"""The package of each server."""
SCALED = [stage.serves for stage in STAGES.values() if stage.replicated]


@app.command(epilog="Example: ldcq run configs/demo.yaml --store runs/demo --set vae.epochs=6")
def run(
    config: ConfigArgument,
    store: StoreOption = DEFAULT_STORE,
    replicas: ReplicasOption = 1,
    set_: SetOption = [],  # noqa: B006 - typer reads the default, nobody changes it
    keep_serving: Annotated[
        bool, typer.Option(help="Keep serving at the end, until interrupted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run everything: data, VAE, latents, prior, critic, evaluation and report.

    Starts the services as processes on this machine, and only those that the configured methods
    need. The policy ldcp adds the world model, the policy bc its network. The same command resumes
    an interrupted run. Stages whose artifacts are in the store are skipped.
    """
    settings = load(config, set_)
    show = partial(show_scores, as_json, settings)
    pipeline.run(settings, store, replicas, keep_serving, console, show)


@app.command(epilog="Example: ldcq train vae configs/demo.yaml --store runs/demo")
def train(
    stage: Annotated[str, one_of("STAGE", TRAINED)],
    config: ConfigArgument,
    store: StoreOption = DEFAULT_STORE,
    variant: VariantOption = "main",
    replicas: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_REPLICAS,
            help="Prior servers to start for the critic; 0: it draws in its own process.",
        ),
    ] = 1,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train or resume one stage, and publish its artifact.

    The store must hold the artifacts of its parents. For the critic, the command also starts prior
    servers, which draw its candidates.
    """
    version = pipeline.train(stage, load(config, set_), store, variant, replicas, console)
    print(f"{stage} {version}")


@app.command(epilog="Example: ldcq serve prior --store runs/demo --listen 0.0.0.0:50051")
def serve(
    service: Annotated[str, one_of("SERVICE", SERVED)],
    config: Annotated[
        str | None,
        typer.Argument(help="A YAML file, preset or task; default: that of the store's last run."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    listen: Annotated[str, typer.Option(help="host:port, or unix:/path.")] = "127.0.0.1:50051",
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the Prometheus endpoint; default: no endpoint.")
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Interface of that endpoint; default: the host of --listen.")
    ] = None,
    variant: VariantOption = "main",
    prior: Annotated[
        list[str],
        typer.Option(metavar="[VARIANT=]TARGET", help="Address of the prior (actor, critic)."),
    ] = [],  # noqa: B006
    train_first: Annotated[
        bool, typer.Option("--train", help="Train (actor: evaluate) first, then serve.")
    ] = False,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Serve one part of a trained pipeline over gRPC, and follow newly published versions.

    With CONFIG the server follows the versions made with that configuration, where the store has
    any. Without CONFIG it follows the current ones.
    """
    source = config if config is not None else pipeline.last_configuration(store)
    code = run_service(
        importlib.import_module(f"{SERVED[service]}.server").serve,
        config=source,
        overrides=set_,
        store=store,
        listen=listen,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        variant=variant,
        prior=prior,
        train_first=train_first,
        as_configured=config is not None,
    )
    raise typer.Exit(code)


@app.command(
    epilog="Example: ldcq evaluate configs/demo.yaml --store runs/demo --episodes 100 --json"
)
def evaluate(
    config: ConfigArgument,
    store: StoreOption = DEFAULT_STORE,
    episodes: Annotated[int | None, typer.Option(min=1, help="Episodes per method.")] = None,
    replicas: ReplicasOption = 1,
    set_: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Play episodes with the methods of a trained store and print their scores."""
    if episodes is not None:
        set_ = [*set_, f"evaluation.episodes={episodes}"]
    settings = load(config, set_)
    show_scores(as_json, settings, pipeline.evaluate(settings, store, replicas, console))


app.command(name="experiment", epilog="Example: ldcq experiment maze2d --scale small --seeds 3")(
    experiment.experiment
)


@app.command(name="scale", epilog="Example: ldcq scale prior 3 --store runs/demo")
def scale_service(
    service: Annotated[str, one_of("SERVICE", SCALED)],
    count: Annotated[
        int, typer.Argument(metavar="N", min=1, max=MOST_REPLICAS, help="Number of prior servers.")
    ],
    store: StoreOption = DEFAULT_STORE,
    variant: VariantOption = "main",
) -> None:
    """Change the number of prior servers of an active run, also during training.

    A new server gets calls as soon as it answers. A removed server first finishes its calls. The
    trained models stay the same.
    """
    del service  # so far there is one kind that can be scaled
    print(scale.scale_prior(store, variant, count))


@app.command(name="status", epilog="Example: ldcq status --store runs/demo")
def show_status(
    store: StoreOption = DEFAULT_STORE,
    metrics: Annotated[
        list[str],
        typer.Option(
            metavar="HOST:PORT",
            envvar="LDCQ_METRICS",
            help="Metrics of a process outside the local run; repeatable.",
        ),
    ] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Show a store and its processes: artifacts, stages, prior servers, episodes.

    The command finds the processes of a local run by itself. Name other processes by their metrics
    endpoints; every address of a host is a process.
    """
    status.show(store, metrics, as_json, Console())


@app.command(name="config", epilog="Example: ldcq config demo --set vae.epochs=3")
def show_config(config: ConfigArgument, set_: SetOption = []) -> None:  # noqa: B006
    """Print a configuration with every default."""
    settings = load(config, set_)
    check_priors(settings)
    print(dump(settings), end="")


@app.command(name="tasks", epilog="Example: ldcq run hopper-medium --store runs/hopper")
def show_tasks(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show all that is known of one task.")
    ] = None,
    store: LocalStoreOption = Path(DEFAULT_STORE),
    as_json: JsonOption = False,
) -> None:
    """List the tasks that can be run by name: `ldcq run NAME`.

    For each: the data on this machine, what can be downloaded or generated, the extra of the
    package that its environment needs, and the paper's score.
    """
    tasks.show(name, store, as_json, Console())


@app.command(epilog="Example: ldcq export runs/demo policy --method ldcq")
def export(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A trained store.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    method: Annotated[
        str | None,
        typer.Option(help="A method of the configuration; default: the first that acts."),
    ] = None,
) -> None:
    """Write a trained policy into a folder, for `ldcq.load_policy` in Python."""
    from cli.export import export as write  # brings torch, which other commands do without

    config = load(pipeline.last_configuration(store))
    chosen = write(pipeline.existing(store), config, method, folder)
    console.print(f"{chosen} is in {folder}; load it with ldcq.load_policy({str(folder)!r})")


@app.command(epilog="Example: ldcq diagnose runs/demo --episodes 50")
def diagnose(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A trained store.")],
    variant: Annotated[
        str | None, typer.Option(help="Only policies of this pipeline; default: all.")
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=0, help="Episodes to play with each policy; 0: none.")
    ] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder of pictures and JSON; default: STORE/diagnose.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Diagnose the critics of a store: offline, in rollouts, and against the scores.

    Looks at the policies of all evaluations, and at critics without one. With six evaluated
    policies or more it says which offline number predicts the score: evaluate other seeds,
    candidates or temperatures with `ldcq evaluate` first.
    """
    from cli import diagnose as diagnosing  # brings torch, which other commands do without

    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False, soft_wrap=True, markup=False)

    found = diagnosing.diagnose(pipeline.existing(store), variant, episodes, out, say)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        diagnosing.show(found, Console())


@app.command(epilog="Example: ldcq certificates runs/tls --name prior.example.org")
def certificates(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the files.")],
    name: Annotated[
        list[str],
        typer.Option(help="A further host name or address of the certificate; repeatable."),
    ] = [],  # noqa: B006
) -> None:
    """Make certificates and a token for development: TLS between all services, both ways.

    Files in the folder are kept. Missing files and certificates about to expire are made anew.
    Prints the environment variables that turn them on.
    """
    try:
        from cli import certificates as making
    except ImportError:
        raise RunError(
            "this needs the package `trustme`: pip install 'ldcq[certificates]'"
        ) from None
    made = ", ".join(making.issue(folder, [*making.NAMES, *name]))
    console.print(f"made: {made or 'nothing; the folder is complete'}", highlight=False)
    for variable, value in making.environment(folder).items():
        print(f"{variable}={value}")


def main() -> None:
    """Entry point: expected errors become one clear message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    sys.path.append(str(Path.cwd()))  # a configuration may name functions of modules that lie here
    try:
        app()
    except Interrupted as interrupted:
        console.print(f"{interrupted}; nothing is lost: the same command resumes")
        sys.exit(interrupted.exit_code)
    except Exception as error:
        explained = explanation(error)
        if explained is None:
            raise
        console.print(f"[red]error:[/] {escape(explained)}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
