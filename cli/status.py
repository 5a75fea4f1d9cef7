"""`ldcq status`: what a store holds and what runs on it, at a glance."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from cli import record, status_tables
from cli.pipeline import existing
from cli.readings import Readings, collect, resolve
from common.rpc import metrics_targets
from common.rpc.channel import connect
from common.rpc.security import VARIABLES, mistrust
from common.stages import STAGES
from common.store import Store
from ldcq.v1 import stage_pb2, stage_pb2_grpc

TIMEOUT = 2.0

Overview = dict[str, Any]
"""`artifacts`, `processes` (of the local run), `stages`, `priors`, `actors` (each with `process`
and its numbers) and `unreachable` (why, by address)."""


def show(store_url: str, metrics: Sequence[str], as_json: bool, console: Console) -> None:
    """Prints the current artifacts with their lineage, and the processes of a run with their
    progress.

    Args:
        store_url: The store, and with it the local run that is active on it.
        metrics: `HOST:PORT` of metrics endpoints of other processes; each address of a host is a
            process.
        as_json: Print one JSON object instead of tables.
        console: Where tables go.

    Raises:
        MissingArtifactError: There is no such store.
        TargetError: A metrics endpoint is no address.
    """
    store = existing(store_url)
    found = overview(store, metrics)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    idle = not found["processes"] and not metrics
    if found["artifacts"]:
        console.print(status_tables.artifact_table(found["artifacts"], store.url))
    else:
        advice = f"; `ldcq run CONFIG --store {store_url}` fills it" if idle else ""
        console.print(f"{store.url} holds nothing yet{advice}.", soft_wrap=True)
    if idle:
        console.print("No run is active.")
    for part in status_tables.run_tables(found):
        if isinstance(part, Table):
            console.print()
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def overview(store: Store, metrics: Sequence[str] = ()) -> Overview:
    """Everything that is shown. See `show`."""
    processes = running_processes(store)
    announced = metrics_targets.addresses(record.metrics_folder(store.root / "run"))
    for item in processes:
        item["metrics"] = None if item["state"] == "ended" else announced.get(item["name"])
    given, unknown = resolve(metrics)
    addresses = [item["metrics"] for item in processes if item["metrics"]]
    figures, silent = collect([*addresses, *given])
    rows: Overview = {"stages": [], "priors": [], "actors": []}
    for item in processes:
        _add_local(rows, item, figures.get(item["metrics"]))
    for address, process in given.items():
        if address in figures:
            _add_given(rows, process, figures[address])
    return {
        "artifacts": current_artifacts(store),
        "processes": processes,
        **rows,
        "unreachable": unknown | silent,
    }


def _add_local(rows: Overview, item: dict[str, Any], figures: Readings | None) -> None:
    """A process of the local run: its metrics, and what it answers itself where it does."""
    name, state = {"process": item["name"]}, {"state": item["state"]}
    if item["replica_of"] is not None:
        rows["priors"].append({**name, **((figures and figures.prior) or {}), **state})
    if item["reports"]:
        (numbers,) = (figures and figures.stages) or [{}]
        rows["stages"].append({**name, **numbers, **item.get("progress", {}), **state})
    if figures and figures.actor:
        rows["actors"].append({**name, **figures.actor})


def _add_given(rows: Overview, process: str, figures: Readings) -> None:
    """A process of which only the metrics are known."""
    name = {"process": process}
    silent = not (figures.stages or figures.prior or figures.actor)
    stages = [{"state": "up"}] if silent else figures.stages
    rows["stages"] += [{**name, **numbers} for numbers in stages]
    if figures.prior:
        rows["priors"].append({**name, **figures.prior})
    if figures.actor:
        rows["actors"].append({**name, **figures.actor})


def current_artifacts(store: Store) -> list[dict[str, Any]]:
    """What CURRENT points to, for every kind and variant."""
    found = []
    for kind in STAGES:
        for variant, version in store.pointers(kind).items():
            meta = store.meta(kind, version)
            found.append(
                {
                    "kind": kind,
                    "variant": variant,
                    "version": version,
                    "implementation": meta.implementation,
                    "parents": meta.parents,
                    "dimensions": meta.dimensions,
                }
            )
    return found


def running_processes(store: Store) -> list[dict[str, Any]]:
    """The processes of the run that is active on `store`, each with its state and its stage's
    progress.
    """
    found = record.read(store.root / "run")
    with ThreadPoolExecutor() as threads:  # one that is starting takes a while to give no answer
        states = threads.map(_state, found)
    return [item | state for item, state in zip(found, states, strict=True)]


def _state(item: dict[str, Any]) -> dict[str, Any]:
    if not record.is_running(item):
        return {"state": "ended"}
    if item["draining"]:
        return {"state": "draining"}
    with connect(item["address"], health_service=None) as channel:
        try:
            return _progress(channel) if item["reports"] else {"state": _health(channel)}
        except grpc.RpcError as error:
            return {"state": _without_answer(error)}


def _health(channel: grpc.Channel) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    loaded = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "serving" if loaded else "waiting"


def _progress(channel: grpc.Channel) -> dict[str, Any]:
    stub = stage_pb2_grpc.StageServiceStub(channel)
    stream = stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=TIMEOUT)
    update = next(iter(stream), None)
    stream.cancel()
    if update is None:
        return {"state": "starting"}
    state = stage_pb2.StageState.Name(update.state).removeprefix("STAGE_STATE_").lower()
    begun = update.state != stage_pb2.STAGE_STATE_UNSPECIFIED
    progress = {
        **MessageToDict(update, preserving_proto_field_name=True),
        "step": update.step,  # 64-bit integers become strings in protobuf's JSON, and NaNs too
        "total": update.total,
        "rate": update.rate,
        "metrics": dict(update.metrics),
    }
    return {"state": state if begun else "starting", "progress": progress}


def _without_answer(error: grpc.RpcError) -> str:
    """The state of a process that runs and does not answer: not yet, or not to us."""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        variable = VARIABLES["token_file"]
        held = os.environ.get(variable)
        return f"refused: {f'its token is not in {variable}' if held else f'set {variable}'}"
    reason = mistrust(error.details() or "")
    return f"refused: {reason}" if reason else "starting"
