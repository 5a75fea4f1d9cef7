"""What the commands do: whole runs, single stages and evaluations as sets of local processes."""

from __future__ import annotations

import fcntl
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markup import escape

from cli import record
from cli.interrupts import handled
from cli.plan import Plan, Planner
from cli.supervisor import RunError, Supervisor
from cli.terminal import ProgressBars
from common.rpc.entry import run_service
from common.stages import POLICIES, STAGES, ancestors
from common.store import (
    MissingArtifactError,
    Store,
    is_remote,
    local_root,
    made,
    owning_variant,
)
from ldcq.config import Config, dump

Row = Mapping[str, Any]

SERVED = {stage.serves: stage for stage in STAGES.values() if stage.serves}
"""Stages by what `ldcq serve` calls their servers."""

_EVALUATION = STAGES["evaluation"]


@dataclass(frozen=True)
class RunResult:
    """What a run or an evaluation came to.

    Attributes:
        rows: One row per method.
        evaluation_version: The evaluation artifact that holds them.
        report: The HTML report.
        store: The store's URL, or its folder.
        nothing_trained: Every artifact was already there.
    """

    rows: Sequence[Row]
    evaluation_version: str
    report: Path
    store: str
    nothing_trained: bool = False

    def context(self) -> dict[str, object]:
        """What belongs beside the rows in a program's output."""
        return {
            "evaluation_version": self.evaluation_version,
            "report": str(self.report),
            "store": self.store,
            "nothing_trained": self.nothing_trained,
        }


def run(
    config: Config,
    store_url: str,
    replicas: int,
    keep_serving: bool,
    console: Console,
    show: Callable[[RunResult], None],
) -> None:
    """Runs every stage that the configured methods need; see `ldcq run --help`.

    Args:
        config: The configuration, as loaded.
        store_url: Where everything is and goes.
        replicas: Prior servers per variant.
        keep_serving: Leave the services up after the result has been shown, until interrupted.
        console: Where progress goes.
        show: Given the result.

    Raises:
        RunError: A stage failed; the message says which and why.
        StoreError: The store cannot be used.
    """
    store = Store(store_url)
    before = _published(store)
    with _running(store) as folder, _planner(config, store, folder, replicas) as planner:
        plan = planner.whole_run()
        with _supervised(plan, folder, console) as supervisor:
            done = supervisor.wait(plan.goals())[_EVALUATION.process]
            if keep_serving:
                show(_result(store, done.artifact_version, _published(store) == before))
                _announce(folder, console)
                supervisor.hold()
    # Not before the services and their progress have gone: it is the last thing to be read.
    show(_result(store, done.artifact_version, _published(store) == before))


def train(
    stage: str, config: Config, store_url: str, variant: str, replicas: int, console: Console
) -> str:
    """Trains one stage of one pipeline and returns the version it published. Raises like `run`."""
    needed = ancestors(stage)
    store = existing(store_url) if needed else Store(store_url)
    made(store, config, variant, needed, intact=True)
    with _running(store) as folder, _planner(config, store, folder, replicas) as planner:
        plan = planner.stages({stage: [variant]})
        with _supervised(plan, folder, console) as supervisor:
            supervisor.wait(plan.goals())
    version = store.current(stage, owning_variant(config, variant, stage))
    if version is None:
        raise RunError(f"{stage} ended without publishing; its log is in {folder}")
    return version


def evaluate(config: Config, store_url: str, replicas: int, console: Console) -> RunResult:
    """Rolls out the configured methods with the models of a trained store. Raises like `run`."""
    store = existing(store_url)
    for method in config.evaluation.methods.values():
        for kind in POLICIES[method.policy]:
            made(store, config, method.variant, (*ancestors(kind), kind), intact=True)
    with _running(store) as folder, _planner(config, store, folder, replicas) as planner:
        plan = planner.stages({"evaluation": ["main"]})
        with _supervised(plan, folder, console) as supervisor:
            done = supervisor.wait(plan.goals())[_EVALUATION.process]
    return _result(store, done.artifact_version)


def serve(
    service: str,
    config: str,
    *,
    overrides: Sequence[str],
    store: str,
    listen: str,
    metrics_port: int | None,
    variant: str,
    prior: Sequence[str],
    train_first: bool,
) -> int:
    """Serves in this process until it is asked to end; returns the exit code."""
    server = importlib.import_module(f"{SERVED[service].module}.server")
    return run_service(
        server.serve,
        config=config,
        overrides=overrides,
        store=store,
        listen=listen,
        metrics_port=metrics_port,
        variant=variant,
        prior=prior,
        train_first=train_first,
    )


def last_configuration(store_url: str) -> str:
    """The path of the configuration that a store was last run with.

    Raises:
        MissingArtifactError: It was never run.
    """
    path = local_root(store_url) / "run" / "config.yaml"
    if not path.is_file():
        raise MissingArtifactError(
            f"{store_url} holds no run: name a CONFIG, or point --store to one that `ldcq run` "
            f"filled"
        )
    return str(path)


def existing(store_url: str) -> Store:
    """A store that is there already: looking for one must not make it."""
    if not is_remote(store_url) and not local_root(store_url).is_dir():
        raise MissingArtifactError(
            f"{store_url}: no such store; `ldcq run CONFIG --store {store_url}` makes one"
        )
    return Store(store_url)


def _published(store: Store) -> dict[str, list[str]]:
    """What was made, but for the evaluations."""
    return {kind: store.versions(kind) for kind in STAGES if kind != _EVALUATION.kind}


def _result(store: Store, version: str, nothing_trained: bool = False) -> RunResult:
    rows = store.load("evaluation", version).meta.details["rows"]
    if not isinstance(rows, list):
        raise RunError(f"evaluation {version} holds no rows: {rows!r}")
    report = store.root / "report.html"
    return RunResult(rows, version, report, store.url, nothing_trained)  # type: ignore[arg-type]


def _save(config: Config, folder: Path) -> Path:
    path = folder / "config.yaml"
    partial = path.with_suffix(".partial")
    partial.write_text(dump(config))
    partial.replace(path)
    return path


@contextmanager
def _running(store: Store) -> Iterator[Path]:
    """The folder of the run on `store`, held by this process alone."""
    folder = store.root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunError(
                f"{store.url} is in use by process {lock.read().strip() or 'unknown'}: wait "
                f"for it, "
                "stop it, or choose another --store"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        record.end_leftovers(folder)
        yield folder


@contextmanager
def _planner(config: Config, store: Store, folder: Path, replicas: int) -> Iterator[Planner]:
    # Not in the store: the path of a socket may have 107 bytes only.
    with TemporaryDirectory(prefix="ldcq-") as sockets:
        metrics = record.metrics_folder(folder)
        yield Planner(config, _save(config, folder), metrics, store.url, Path(sockets), replicas)


@contextmanager
def _supervised(plan: Plan, folder: Path, console: Console) -> Iterator[Supervisor]:
    """The processes, started, with their progress on the console; all stopped in the end."""

    def notice(text: str) -> None:
        console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    with ProgressBars(console) as bars:
        supervisor = Supervisor(plan, folder, bars.update, on_notice=notice)
        with handled(supervisor.interrupt), supervisor:
            yield supervisor


def _announce(folder: Path, console: Console) -> None:
    console.print("Serving until interrupted (Ctrl-C):")
    for process in filter(record.is_running, record.read(folder)):
        console.print(f"  {process['name']:<20} {process['address']}", highlight=False)
