"""`ldcq bench`: measures things side by side in one run and prints their ratios."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from cli.options import DEFAULT_STORE, JsonOption, SetOption, StoreOption

if TYPE_CHECKING:
    from benchmarks.result import BenchmarkResult


app = typer.Typer(
    help="Measure speed as ratios of things that run side by side.", no_args_is_help=True
)
DeviceOption = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it is computed.")]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--store", help="Store of the prior; default: the paper's prior with random weights."
    ),
]
StepsOption = Annotated[int, typer.Option(min=1, help="Denoising steps.")]


def run(name: str, as_json: bool, **arguments: Any) -> None:
    """Runs `benchmarks.<name>.run(**arguments)` and prints the result."""
    # Imported here: a benchmark brings torch and the services.
    result: BenchmarkResult = importlib.import_module(f"benchmarks.{name}").run(**arguments)
    if as_json:
        print(result.json())
    else:
        result.print(Console())


@app.command(epilog="Example: ldcq bench replicas --store runs/demo --json")
def replicas(
    as_json: JsonOption = False,
    store: PriorOption = None,
    candidates: Annotated[int, typer.Option(min=1, help="Latents per state.")] = 100,
    steps: StepsOption = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of every measurement.")] = 6,
) -> None:
    """Latents and critic updates per second with one and with two prior servers."""
    run("replicas", as_json, store=store, candidates=candidates, steps=steps, rounds=rounds)


@app.command(epilog="Example: ldcq bench learner --json")
def learner(
    as_json: JsonOption = False,
    candidates: Annotated[int, typer.Option(min=1, help="Latents per next state.")] = 100,
    windows: Annotated[int, typer.Option(min=1, help="Windows in the replay.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Measured updates.")] = 60,
    device: DeviceOption = "cpu",
) -> None:
    """Critic updates per second with cached candidates, against a plain Algorithm 1; on a GPU also
    with candidates that the paper's prior draws for every update.
    """
    sizes = {"candidates": candidates, "windows": windows, "rounds": rounds}
    run("learner", as_json, **sizes, device=device)


@app.command(epilog="Example: ldcq bench targets --json")
def targets(
    as_json: JsonOption = False,
    preset: Annotated[str, typer.Option(help="Sizes of a preset or a file.")] = "demo",
    windows: Annotated[int, typer.Option(min=1, help="Windows in the replay.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="Measured updates.")] = 200,
) -> None:
    """Critic updates per second of every rule for V, and of latents valued for k < H steps."""
    run("targets", as_json, preset=preset, windows=windows, rounds=rounds)


@app.command(epilog="Example: ldcq bench training --preset paper --rounds 5 --json")
def training(
    as_json: JsonOption = False,
    preset: Annotated[str, typer.Option(help="Sizes of a preset or a file.")] = "demo",
    rounds: Annotated[
        int, typer.Option(min=1, help="Measured updates of each trainer; on a GPU 20 each.")
    ] = 60,
    device: DeviceOption = "cpu",
) -> None:
    """Samples per second of VAE and prior training, against plain loops; on a GPU also against the
    same updates without graphs.
    """
    run("training", as_json, preset=preset, rounds=rounds, device=device)


@app.command(epilog="Example: ldcq bench serving --json")
def serving(
    as_json: JsonOption = False,
    store: PriorOption = None,
    steps: StepsOption = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of server and sampler.")] = 5,
    calls: Annotated[int, typer.Option(min=1, help="Actors' calls of each kind.")] = 150,
    threads: Annotated[int, typer.Option(min=1, help="Threads of server and sampler.")] = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Throughput and latency through a prior server, against the sampler in process."""
    arguments = {"steps": steps, "rounds": rounds, "calls": calls, "threads": threads}
    run("serving", as_json, store=store, device=device, **arguments)


@app.command(epilog="Example: ldcq bench sampler --json")
def sampler(
    as_json: JsonOption = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every sampler and of sgemm.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of every measurement.")] = 3,
    device: DeviceOption = "cpu",
) -> None:
    """Latents per second of the paper's prior, against the plain denoiser and against sgemm."""
    run("sampler", as_json, threads=threads, rounds=rounds, device=device)


@app.command(epilog="Example: ldcq bench solvers configs/demo.yaml --store runs/demo --json")
def solvers(
    config: Annotated[str, typer.Argument(help="Configuration of the run.", metavar="CONFIG")],
    store: StoreOption = DEFAULT_STORE,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each evaluation.")] = 25,
    as_json: JsonOption = False,
    out: Annotated[
        str | None,
        typer.Option(help="Folder for solvers.csv and solvers.png; default: in the store."),
    ] = None,
    solver: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=STEPS,...",
            help="Solver and numbers of steps; repeatable; default: ddpm=5,10,20, ddim=5,10,20 and "
            "dpmpp_2m=3,5,10,20, up to the steps of the prior.",
        ),
    ] = [],  # noqa: B006 - typer reads it
    candidates: Annotated[
        list[int], typer.Option(min=1, help="Latents per decision, n; repeatable.")
    ] = [50],  # noqa: B006 - typer reads it
    set_: SetOption = [],  # noqa: B006 - typer reads it
) -> None:
    """Latency and return over solver, steps and n, beside DDPM with all its steps.

    Also tests that a solver keeps the modes of the prior and the critic's maxima. Writes a table
    and a plot.
    """
    run(
        "solvers",
        as_json,
        config=config,
        store=store,
        solvers=solver,
        candidates=candidates,
        episodes=episodes,
        overrides=set_,
        out=out,
    )
