"""`ldcq status`: what a store holds and what runs on it, at a glance."""

from __future__ import annotations

import json
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

from cli import record
from common.rpc.channel import connect
from common.store import MissingArtifactError, Store, is_remote, local_root
from ldcq.v1 import stage_pb2, stage_pb2_grpc

KINDS = ("vae", "latents", "prior", "critic", "world_model", "bc", "evaluation")
TIMEOUT = 2.0


def show(store_url: str, as_json: bool, console: Console) -> None:
    """Prints the current artifacts with their lineage, and the processes of a run with their
    progress.

    Raises:
        MissingArtifactError: There is no such store.
    """
    if not is_remote(store_url) and not local_root(store_url).is_dir():
        raise MissingArtifactError(f"{store_url}: no such store; `ldcq run` makes one")
    store = Store(store_url)
    artifacts, processes = current_artifacts(store), running_processes(store)
    if as_json:
        print(json.dumps({"artifacts": artifacts, "processes": processes}, indent=2))
        return
    if not artifacts:
        console.print(
            f"{store.url} holds nothing yet; `ldcq run CONFIG --store {store_url}` fills it.",
            soft_wrap=True,
        )
    else:
        console.print(_artifact_table(artifacts, store.url))
    if not processes:
        console.print("No run is active.")
        return
    table = Table(title="Processes", title_justify="left")
    for column in ("name", "pid", "address", "state", "step", "steps/s"):
        table.add_column(column)
    for item in processes:
        progress = item.get("progress", {})
        step = f"{progress.get('step', 0)}/{progress['total']}" if progress.get("total") else ""
        rate = f"{progress['rate']:.1f}" if progress.get("rate") else ""
        table.add_row(item["name"], str(item["pid"]), item["address"], item["state"], step, rate)
    console.print(table)


def _artifact_table(artifacts: list[dict[str, Any]], url: str) -> Table:
    table = Table(title=f"Artifacts in {url}", title_justify="left")
    for column in ("kind", "variant", "version", "made from"):
        table.add_column(column)
    for item in artifacts:
        parents = ", ".join(f"{kind} {version}" for kind, version in item["parents"].items())
        table.add_row(item["kind"], item["variant"], item["version"], parents)
    return table


def current_artifacts(store: Store) -> list[dict[str, Any]]:
    """What CURRENT points to, for every kind and variant."""
    found = []
    for kind in KINDS:
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
    for item in found:
        if not record.is_running(item):
            item["state"] = "ended"
        elif item["reports"]:
            item.update(_progress(item["address"]))
        else:
            item["state"] = "draining" if item["draining"] else _health(item["address"])
    return found


def _health(address: str) -> str:
    with connect(address, health_service=None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError:
            return "starting"
    loaded = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "serving" if loaded else "waiting"


def _progress(address: str) -> dict[str, Any]:
    with connect(address, health_service=None) as channel:
        stub = stage_pb2_grpc.StageServiceStub(channel)
        try:
            stream = stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=TIMEOUT)
            update = next(iter(stream))
        except (grpc.RpcError, StopIteration):
            return {"state": "starting"}
        stream.cancel()
    state = stage_pb2.StageState.Name(update.state).removeprefix("STAGE_STATE_").lower()
    return {"state": state, "progress": _numbers(update)}


def _numbers(update: stage_pb2.StageServiceWatchResponse) -> dict[str, Any]:
    return {
        **MessageToDict(update, preserving_proto_field_name=True),
        "step": update.step,  # 64-bit integers become strings in protobuf's JSON
        "total": update.total,
    }
