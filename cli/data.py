"""`ldcq data`: generate, import, list and show datasets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from cli.options import DEFAULT_STORE, JsonOption, LocalStoreOption
from cli.tasks import run_on
from common.data import check_rewards, ensure_dataset, load_episodes, open_dataset
from common.data.flattening import ImagesError
from common.data.minari import SHOWN, MinariDataset, local_datasets
from common.data.refusals import OtherGoalsError
from common.store.datasets import dataset_path
from ldcq.config import (
    Config,
    ConfigError,
    DataConfig,
    FramesConfig,
    Generate,
    MazeName,
    PolicyConfig,
    load,
    override,
    tasks,
    validated,
)
from ldcq.data.episodes import Episodes
from ldcq.data.resets import suspicious_steps
from ldcq.data.windows import Windows, make_windows

app = typer.Typer(
    help="Generate, import and show datasets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


BINS = 8


@app.command(epilog="Example: ldcq data pointmaze --maze medium --steps 100000 --store runs/demo")
def pointmaze(
    maze: Annotated[MazeName, typer.Option(help="The maze.")] = "large",
    steps: Annotated[int, typer.Option(min=1, help="Environment steps.")] = 1_000_000,
    noise: Annotated[
        float, typer.Option(min=0.0, help="Standard deviation of the noise on actions.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the whole dataset.")] = 0,
    dataset_id: Annotated[
        str | None, typer.Option("--id", help="Minari id; default: ldcq/pointmaze-MAZE-v0.")
    ] = None,
    store: LocalStoreOption = Path(DEFAULT_STORE),
) -> None:
    """Generate PointMaze data with D4RL's waypoint controller, in real MuJoCo."""
    name = dataset_id or f"ldcq/pointmaze-{maze}-v0"
    settings = {"maze": maze, "steps": steps, "noise": noise, "seed": seed}
    config = validated(DataConfig, {"dataset": name, "generate": settings}, "data")
    with _bar(f"{name}: steps") as on_progress:
        made = ensure_dataset(config, store, on_progress)
    _say_where(name, store, made)


@app.command(epilog="Example: ldcq data generate scene --steps 100000 --store runs/scene")
def generate(
    name: Annotated[str, typer.Argument(help="A task (`ldcq tasks`).", metavar="NAME")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps; default: the task's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the whole dataset; default: 0.")
    ] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(
            help="Layers of a trained policy (npz), where a task asks for it; repeatable."
        ),
    ] = None,
    store: LocalStoreOption = Path(DEFAULT_STORE),
) -> None:
    """Generate data of a task's kind, on all cores. A call that was interrupted goes on."""
    made = task.generated if (task := load(name).task) else None
    if made is None or made.by is None:
        raise ConfigError(
            f"{name!r}: no data of its kind can be generated; `ldcq tasks` says for which they can"
        )
    given = {"steps": steps, "seed": seed, **_policies(made.by, policy or [])}
    changes = {key: value for key, value in given.items() if value is not None}
    settings = {**made.by.model_dump(mode="json"), **changes}
    config = validated(DataConfig, {"dataset": made.dataset, "generate": settings}, "data")
    with _bar(f"{made.dataset}: steps") as on_progress:
        written = ensure_dataset(config, store, on_progress)
    _say_where(made.dataset, store, written)
    typer.echo(f"next: {run_on(name, made.dataset)} --store {store}")


def _policies(by: Generate, files: list[Path]) -> dict[str, Any]:
    """The policies of a task with these files; one file does for all of them."""
    if not isinstance(by, PolicyConfig):
        if files:
            raise ConfigError(f"--policy {files[0]}: expected none, as no policy makes these data")
        return {}
    wanted = len(by.policies)
    if len(files) not in (1, wanted):
        raise ConfigError(
            f"--policy: {len(files)} files given, expected {wanted}, or one for all: the layers of "
            f"trained policies for {by.environment}, as npz"
        )
    named = files * wanted if len(files) == 1 else files
    policies = zip(by.policies, named, strict=True)
    return {
        "policies": tuple(each.model_copy(update={"file": str(file)}) for each, file in policies)
    }


@app.command(epilog="Example: ldcq data ensure configs/demo.yaml --store runs/demo")
def ensure(
    config: Annotated[
        str,
        typer.Argument(
            help="A YAML file, a preset (demo, paper, small), or a task.", metavar="CONFIG"
        ),
    ],
    store: LocalStoreOption = Path(DEFAULT_STORE),
) -> None:
    """Generate or download the dataset of a configuration, where the store lacks it."""
    whole = load(config)
    settings = whole.data
    with _bar(f"{settings.dataset}: steps") as on_progress:
        made = ensure_dataset(settings, store, on_progress)
    open_dataset(settings, store, whole.frames)
    typer.echo(f"{settings.dataset}: {'written' if made else 'ready'}")


@app.command(epilog="Example: ldcq data door-demos door-v0_demos.npz --store runs/door")
def door_demos(
    file: Annotated[Path, typer.Argument(help="Door demonstrations of hand_dapg, as .npz.")],
    dataset_id: Annotated[str, typer.Option("--id", help="Minari id.")] = "ldcq/door-human-v0",
    store: LocalStoreOption = Path(DEFAULT_STORE),
) -> None:
    """Import human door-opening demonstrations by re-simulating them in AdroitHandDoor."""
    from common.data.adroit import write_door_demonstrations  # needs the simulator

    made = False
    if dataset_path(store, dataset_id) is None:
        with _bar(f"{dataset_id}: demonstrations") as on_progress:
            made = write_door_demonstrations(file, dataset_id, store, on_progress)
    _say_where(dataset_id, store, made)
    typer.echo(f"next: {run_on('door-human', dataset_id)} --store {store}")


@app.command(
    epilog="Example: ldcq data inspect ldcq/pointmaze-medium-v0 --store runs/demo --horizon 30"
)
def inspect(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A Minari id, a file of D4RL (HDF5) or OGBench (npz), a task, or a YAML file."
        ),
    ],
    horizon: Annotated[
        int | None,
        typer.Option(min=1, help="H, the steps of a window; default: the task's, or 30."),
    ] = None,
    observation_key: Annotated[
        list[str] | None,
        typer.Option(help="Key of dictionary observations; repeatable; default: all."),
    ] = None,
    episode_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of an episode, of a D4RL file; default: found.")
    ] = None,
    store: LocalStoreOption = Path(DEFAULT_STORE),
    as_json: JsonOption = False,
) -> None:
    """Show a dataset: episodes, spaces, images, returns, windows, steps that look like resets,
    rewards that belong to other goals than the evaluated one. Fails where values are NaN.
    """
    config = Config(data=validated(DataConfig, {"dataset": dataset}, "data"))
    if dataset in tasks() or dataset.endswith((".yaml", ".yml")):
        config = load(dataset)
    given = {"data.observation_keys": observation_key, "data.episode_steps": episode_steps}
    config = override(config, {key: value for key, value in given.items() if value})
    advice = None
    try:
        episodes = load_episodes(config.data, store, None, config.frames)
    except ImagesError:
        config = config.model_copy(update={"frames": FramesConfig()})
        episodes = load_episodes(config.data, store, None, config.frames)
        advice = _frames_setting(episodes.spaces.frames)
    windows = make_windows(episodes, horizon or config.horizon, 0.0, 0)
    summary = _summary(episodes, windows, config.frames) | {
        "state": _state(config, store),
        "setting": advice,
        "other_goals": _other_goals(config, store),
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    console = Console()
    table = Table(title=episodes.name, show_header=False)
    for key, value in summary.items():
        if key != "length_histogram" and value is not None:
            table.add_row(key.replace("_", " "), _text(value))
    console.print(table)
    console.print(_histogram_table(summary["length_histogram"]))


@app.command("list", epilog="Example: ldcq data list --store runs/demo --json")
def list_datasets(
    store: LocalStoreOption = Path(DEFAULT_STORE), as_json: JsonOption = False
) -> None:
    """List the datasets in the store and in Minari's own folder."""
    rows = []
    for name, folder in local_datasets(store).items():
        metadata = MinariDataset(folder).metadata
        counts = {key: metadata.get(f"total_{key}") or 0 for key in ("episodes", "steps")}
        rows.append({"id": name, **counts, "folder": str(folder)})
    if as_json:
        typer.echo(json.dumps({"datasets": rows}))
        return
    if not rows:
        typer.echo("No datasets here; make one with `ldcq data pointmaze`.")
        return
    table = Table("id", "episodes", "steps", "folder")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console().print(table)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress("{task.description}", *columns, console=console) as progress:
        task = progress.add_task(label, total=None, visible=False)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield on_progress


def _say_where(name: str, store: Path, made: bool) -> None:
    state = "written" if made else "already there"
    typer.echo(f"{name}: {state}, in {dataset_path(store, name)}")


def _summary(episodes: Episodes, windows: Windows, frames: FramesConfig | None) -> dict[str, Any]:
    returns = [float(episodes.rewards_of(index).sum()) for index in range(episodes.count)]
    spaces = dataclasses.asdict(episodes.spaces)
    images: dict[str, int] = {}
    shape = spaces.pop("frames")
    if frames is not None and episodes.frames is not None:
        names = ("per_observation", "height", "width", "channels")
        images = dict(zip(names, shape, strict=True)) | {"in_all": shape[0] * len(episodes.frames)}
        spaces["state_dim"] += shape[0] * frames.latent_dim
    counts, edges = np.histogram(
        episodes.lengths, bins=min(BINS, int(np.ptp(episodes.lengths)) + 1)
    )
    rows_outside, excess = episodes.actions_outside
    suspicious = suspicious_steps(episodes)
    return {
        "id": episodes.name,
        "fingerprint": episodes.fingerprint,
        "episodes": episodes.count,
        "steps": len(episodes.rewards),
        "lengths": _spread(episodes.lengths),
        "returns": _spread(returns),
        "terminations": int(episodes.terminations.sum()),
        "truncations": int(episodes.truncations.sum()),
        "spaces": {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in spaces.items()
        },
        "images": images or None,
        "actions_outside": {"rows": rows_outside, "by_up_to": excess} if rows_outside else None,
        "reference_scores": episodes.reference_scores,
        "horizon": windows.horizon,
        "windows": len(windows),
        "episodes_too_short": episodes.count - len(np.unique(windows.episode)),
        "not_finite": 0,  # reading them would have failed
        "suspicious_steps": len(suspicious),  # they look like resets inside an episode
        "first_suspicious": [
            {"episode": episode, "step": step} for episode, step in suspicious[:SHOWN]
        ],
        "length_histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def _state(config: Config, store: Path) -> dict[str, int] | None:
    """Entries of the state by key of a dictionary observation, in their order; None of others."""
    source = open_dataset(config.data, store, config.frames)
    leaves = source.flattening.leaves if isinstance(source, MinariDataset) else ()
    return {leaf.name: leaf.size for leaf in leaves if leaf.name} or None


def _frames_setting(frames: tuple[int, ...]) -> str:
    """What to set to learn from images (K, H, W, C) that are not compressed yet."""
    channels, sides = FramesConfig().channels, math.gcd(*frames[1:3])
    halvings = min((sides & -sides).bit_length() - 1, len(channels))
    if not halvings:
        sides = 2 ** len(channels)
        return f"images are not flattened: resize them to multiples of {sides} and set frames={{}}"
    value = "{}" if halvings == len(channels) else f"{{channels: {[*channels[:halvings]]}}}"
    return (
        f"images are not flattened: frames={value} compresses each to {FramesConfig().latent_dim} "
        "entries of the state"
    )


def _other_goals(config: Config, store: Path) -> str | None:
    """What is to be said of rewards of other goals; None: nothing is seen of any."""
    try:
        check_rewards(config, store)
    except OtherGoalsError as error:
        return str(error)
    return None


def _spread(values: npt.ArrayLike) -> dict[str, float]:
    array = np.asarray(values, np.float64)
    return {name: float(getattr(array, name)()) for name in ("min", "mean", "max")}


def _histogram_table(histogram: dict[str, list[float]]) -> Table:
    table = Table("steps", "episodes", "", title="Lengths")
    edges, most = histogram["edges"], max(histogram["counts"])
    for index, count in enumerate(histogram["counts"]):
        bar = "█" * round(30 * count / most)
        low, high = edges[index], edges[index + 1]
        # A bin holds the whole numbers from its lower edge on, below the upper one.
        first = math.ceil(low)
        last = math.floor(high) if index == len(edges) - 2 else math.ceil(high) - 1
        table.add_row(_text(first) if first == last else f"{first} to {last}", str(int(count)), bar)
    return table


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_text(item) for item in value[:6])
        return f"{shown}, ... ({len(value)})" if len(value) > 6 else shown
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
