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
from cli.readings import Readings, collect
from cli.scraping import Endpoint, resolve
from common.rpc import metrics_targets
from common.rpc.channel import connect
from common.rpc.security import VARIABLES, mistrust
from common.stages import STAGES
from common.store import MissingArtifactError, Store, is_remote, local_root
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
        as_json: Print one JSON object.
        console: Where tables go.

    Raises:
        MissingArtifactError: There is no such store.
        TargetError: A metrics endpoint is no address.
    """
    if not is_remote(store_url) and not local_root(store_url).is_dir():
        raise MissingArtifactError(f"{store_url}: no such store; `ldcq run` makes one")
    store = Store(store_url)
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
    figures, silent = collect([*addresses, *(endpoint.address for endpoint in given)])
    rows: Overview = {"stages": [], "priors": [], "actors": []}
    for item in processes:
        _add_local(rows, item, figures.get(item["metrics"]))
    for endpoint in given:
        if endpoint.address in figures:
            _add_given(rows, endpoint, figures[endpoint.address])
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


def _add_given(rows: Overview, endpoint: Endpoint, figures: Readings) -> None:
    """A process of which only the metrics are known."""
    name = {"process": endpoint.process}
    stages = figures.stages
    if not stages and not figures.prior and not figures.actor:
        stages = [{"state": "up"}]
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
    if item["reports"]:
        return _progress(item["address"])
    return {"state": "draining" if item["draining"] else _health(item["address"])}


def _health(address: str) -> str:
    with connect(address, health_service=None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return _without_answer(error)
    loaded = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "serving" if loaded else "waiting"


def _progress(address: str) -> dict[str, Any]:
    with connect(address, health_service=None) as channel:
        stub = stage_pb2_grpc.StageServiceStub(channel)
        try:
            stream = stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=TIMEOUT)
            update = next(iter(stream))
        except StopIteration:
            return {"state": "starting"}
        except grpc.RpcError as error:
            return {"state": _without_answer(error)}
        stream.cancel()
    state = stage_pb2.StageState.Name(update.state).removeprefix("STAGE_STATE_").lower()
    begun = update.state != stage_pb2.STAGE_STATE_UNSPECIFIED
    return {"state": state if begun else "starting", "progress": _numbers(update)}


def _without_answer(error: grpc.RpcError) -> str:
    """The state of a process that runs and does not answer: not yet, or not to us."""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        variable = VARIABLES["token_file"]
        wanted = (
            f"its token is not in {variable}" if os.environ.get(variable) else f"set {variable}"
        )
        return f"refused: {wanted}"
    reason = mistrust(error.details() or "")
    return f"refused: {reason}" if reason else "starting"


def _numbers(update: stage_pb2.StageServiceWatchResponse) -> dict[str, Any]:
    return {
        **MessageToDict(update, preserving_proto_field_name=True),
        "step": update.step,  # 64-bit integers become strings in protobuf's JSON, and NaNs too
        "total": update.total,
        "rate": update.rate,
        "metrics": dict(update.metrics),
    }
