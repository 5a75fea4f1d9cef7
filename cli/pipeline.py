"""What the commands do: whole runs, single stages and evaluations as sets of local processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cli import record
from cli.checks import check_priors, check_task
from cli.interrupts import handled, interrupted
from cli.plan import Plan, Planner, needed_variants
from cli.sockets import socket_folder
from cli.supervisor import RunError, Supervisor
from cli.terminal import ProgressBars
from common.data.loading import fingerprint
from common.stages import STAGES, ancestors, needed_kinds
from common.store import (
    MissingArtifactError,
    Store,
    is_remote,
    local_root,
    made,
    owning_variant,
)
from common.store.files import naming, replace_atomically
from ldcq.config import Config, dump, resolve_variant
from services.actor.report.written import written_report

_EVALUATION = STAGES["evaluation"]


@dataclass(frozen=True)
class RunResult:
    """What a run or an evaluation came to."""

    rows: Sequence[Mapping[str, Any]]  # one per method; none where nothing could be played
    evaluation_version: str  # of the artifact that holds them; empty without
    report: Path | None  # None where none is drawn
    store: str  # its URL, or its folder
    normalised: bool  # by reference scores; else returns are as they are
    nothing_trained: bool = False  # every artifact was already there


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
        Exception: As `check_priors` and `check_task`, before anything is started.
    """
    check_priors(config, needed_variants(config)["prior"])
    store = Store(store_url)
    store.check_writable()
    check_task(config, store.root)
    before = _published(store)
    with _started(config, store, replicas, Planner.whole_run, console, _read_data) as supervisor:
        done = supervisor.wait()[_EVALUATION.process]
        if keep_serving:
            show(_result(store, done.artifact_version, _published(store) == before))
            _announce(store, console)
            supervisor.hold()
    # Not before the services and their progress have gone: it is the last thing to be read.
    show(_result(store, done.artifact_version, _published(store) == before))


def train(
    stage: str, config: Config, store_url: str, variant: str, replicas: int, console: Console
) -> str:
    """Trains one stage of one pipeline and returns the version it published. Raises like `run`."""
    check_priors(config)
    needed = ancestors(stage, resolve_variant(config, variant))
    store = existing(store_url) if needed else Store(store_url)
    store.check_writable()
    _made(store, config, variant, needed)
    wanted = {stage: [variant]}
    with _started(config, store, replicas, lambda by: by.stages(wanted), console) as supervisor:
        supervisor.wait()
    version = store.current(stage, owning_variant(config, variant, stage))
    if version is None:
        raise RunError(f"{stage} ended without publishing; its log is in {store.root / 'run'}")
    return version


def evaluate(config: Config, store_url: str, replicas: int, console: Console) -> RunResult:
    """Rolls out the configured methods with the models of a trained store. Raises like `run`."""
    check_priors(config)
    store = existing(store_url)
    if store.root == local_root(store_url):
        store.check_writable()
    elif not is_remote(store_url):
        console.print(f"{store.url} can only be read: results go to {store.root}", soft_wrap=True)
    for method in config.evaluation.methods.values():
        needed = needed_kinds(method.policy, resolve_variant(config, method.variant))
        _made(store, config, method.variant, needed)
    check_task(config, store.root)
    wanted = {_EVALUATION.kind: ["main"]}
    with _started(config, store, replicas, lambda by: by.stages(wanted), console) as supervisor:
        done = supervisor.wait()[_EVALUATION.process]
    if not done.artifact_version:
        raise RunError(
            "there is nothing to score: expected some evaluation.methods, and data that record an "
            "environment or a Gymnasium id in evaluation.environment"
        )
    return _result(store, done.artifact_version)


def last_configuration(store_url: str) -> str:
    """The path of the configuration that a store was last run with.

    Raises:
        MissingArtifactError: It was never run.
    """
    path = local_root(store_url) / "run" / "config.yaml"
    if not path.is_file():
        raise MissingArtifactError(
            f"{store_url} holds no run: name a CONFIG, or point --store to one that `ldcq run` "
            "filled"
        )
    return str(path)


def existing(store_url: str) -> Store:
    """A store that is there already: looking for one must not make it.

    Raises:
        MissingArtifactError: There is none.
    """
    if not is_remote(store_url) and not local_root(store_url).is_dir():
        raise MissingArtifactError(
            f"{store_url}: no such store; `ldcq run CONFIG --store {store_url}` makes one"
        )
    return Store(store_url)


def _made(store: Store, config: Config, variant: str, kinds: Sequence[str]) -> None:
    """Raises NotMadeError unless these artifacts are there, made from the data as they are now."""
    own = resolve_variant(config, variant)
    dataset = fingerprint(own.data, store.root, own.training.memory, own.frames) if kinds else None
    made(store, config, variant, kinds, dataset=dataset, intact=True)


def _read_data(config: Config, store: Store) -> None:
    """Reads datasets that are there and have changed, before any stage starts, so that all stages
    look for what descends from the data as they are.
    """
    for variant in (config.variant, *config.variants):
        own = resolve_variant(config, variant)
        fingerprint(own.data, store.root, own.training.memory, own.frames)


def _published(store: Store) -> dict[str, list[str]]:
    """What was made, but for the evaluations."""
    return {kind: store.versions(kind) for kind in STAGES if kind != _EVALUATION.kind}


def _result(store: Store, version: str, nothing_trained: bool = False) -> RunResult:
    if not version:
        return RunResult((), "", None, store.url, False, nothing_trained)
    details = store.load("evaluation", version).meta.details
    rows: Any = details["rows"]
    normalised = bool(details["reference_scores"])
    if not isinstance(rows, list):
        raise RunError(f"evaluation {version} holds no rows: {rows!r}")
    report = written_report(store, version)
    return RunResult(rows, version, report, store.url, normalised, nothing_trained)


@contextmanager
def _started(
    config: Config,
    store: Store,
    replicas: int,
    plan: Callable[[Planner], Plan],
    console: Console,
    before: Callable[[Config, Store], None] = lambda *_: None,
) -> Iterator[Supervisor]:
    """The processes, started, with their progress on the console; all stopped in the end. `before`
    they start, something may have to be done.
    """

    def notice(text: str) -> None:
        console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    folder = store.root / "run"
    path, metrics = folder / "config.yaml", record.metrics_folder(folder)
    with _held(store, folder), socket_folder() as sockets:
        replace_atomically(path, dump(config).encode())
        planner = Planner(config, path, metrics, store.url, sockets, replicas)
        with ProgressBars(console) as bars:
            with handled(interrupted):
                before(config, store)
            supervisor = Supervisor(plan(planner), folder, bars.update, on_notice=notice)
            with handled(supervisor.interrupt), supervisor:
                yield supervisor


@contextmanager
def _held(store: Store, folder: Path) -> Iterator[None]:
    """The folder of the run on `store`, held by this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunError(
                f"{store.url} is in use by process {lock.read().strip() or 'unknown'}: wait for "
                "it, stop it, or choose another --store"
            ) from None
        with naming(Path(lock.name)):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        record.end_leftovers(folder)
        yield


def _announce(store: Store, console: Console) -> None:
    console.print("Serving until interrupted (Ctrl-C):")
    for process in filter(record.is_running, record.read(store.root / "run")):
        console.print(f"  {process['name']:<20} {process['address']}", highlight=False)
