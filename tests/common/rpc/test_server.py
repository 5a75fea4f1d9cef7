"""Servers start, say how they are, refuse addresses in use and stop without losing a call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from common.rpc import metrics_targets, stage
from common.rpc.channel import connect
from common.rpc.clients import PriorClient
from common.rpc.prior import FULL_NAME
from common.rpc.server import Server, ServerError
from common.rpc.signals import StopSignals
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import prior_pb2_grpc, stage_pb2, stage_pb2_grpc
from tests.common.rpc.conftest import Spawn, Start
from tests.draws import draw
from tests.numpy_prior import NumpyPrior


def _health(address: str, service: str = "") -> str:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    return name


def test_health_is_per_service_and_the_server_is_well_when_all_are() -> None:
    server = Server(linger=0.0)
    progress = StageServicer(Progress("prior"))
    server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, NumpyPrior(), FULL_NAME)
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, progress, stage.FULL_NAME)
    address = server.start()
    try:
        assert _health(address, stage.FULL_NAME) == "SERVING"
        assert _health(address, FULL_NAME) == "NOT_SERVING"
        assert _health(address) == "NOT_SERVING"
        server.set_serving(FULL_NAME, True)
        assert _health(address, FULL_NAME) == "SERVING"
        assert _health(address) == "SERVING"
    finally:
        server.drain(0)


def test_health_names_what_it_knows(start: Start) -> None:
    with grpc.insecure_channel(start(NumpyPrior())) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        listed = stub.List(health_pb2.HealthListRequest(), timeout=10).statuses
        assert {name: answer.status for name, answer in listed.items()} == {"": 1, FULL_NAME: 1}
        request = health_pb2.HealthCheckRequest(service="nobody")
        with pytest.raises(grpc.RpcError, match=f"'nobody', expected one of {FULL_NAME}") as caught:
            stub.Check(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        first = next(stub.Watch(request, timeout=10))
        assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_clients_that_come_and_go_together_do_not_stop_a_server(start: Start) -> None:
    """Every client watches the server's health while it is connected."""
    address, request = start(NumpyPrior()), health_pb2.HealthCheckRequest()

    def come_and_go(_: int) -> None:
        with grpc.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch
            for _ in range(100):
                call = watch(request, timeout=30)
                assert next(call).status == health_pb2.HealthCheckResponse.SERVING
                call.cancel()

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(come_and_go, range(8)))


def test_a_plain_client_can_call_through_reflection_alone(start: Start) -> None:
    with grpc.insecure_channel(start(NumpyPrior())) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert FULL_NAME in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName(FULL_NAME).FindMethodByName("Describe")
        ask = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{FULL_NAME}/Describe",
            request_serializer=ask.SerializeToString,
            response_deserializer=answer.FromString,
        )
        assert call(ask(), timeout=10).implementation == "numpy"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{used}", "port is in use; .* choose another"),
        ("192.0.2.1:50051", "use an address of this machine"),
        ("no-such-host.invalid:50051", "host 'no-such-host.invalid' is not"),
        ("50051", "expected HOST:PORT"),
        ("unix:{folder}/missing/socket", "folder .*missing does not exist"),
        ("unix:{folder}/{long}", "longer than the 107 bytes"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_by_name(
    start: Start,
    tmp_path: Path,
    template: str,
    complaint: str,
) -> None:
    address = template.format(used=start(NumpyPrior()), folder=tmp_path, long="x" * 120)
    with pytest.raises(ServerError, match=complaint) as caught:
        Server(address).start()
    assert address in str(caught.value)


def test_a_metrics_port_in_use_is_refused_by_name(start: Start) -> None:
    port = int(start(NumpyPrior()).rpartition(":")[2])
    with pytest.raises(ServerError, match=f"metrics on 127.0.0.1:{port}: Address already in use"):
        Server(metrics_port=port).start()


def test_a_server_says_where_its_metrics_are_until_it_has_drained(tmp_path: Path) -> None:
    file = tmp_path / "run" / "prior-0@bcq_h.json"
    server = Server(f"unix:{tmp_path}/s", linger=0.0, metrics_port=0, metrics_targets=file)
    server.start()
    (group,) = json.loads(file.read_text())  # as Prometheus reads it
    assert group == {
        "targets": [server.metrics_address],
        "labels": {"process": "prior-0@bcq_h"},
    }
    with urlopen(f"http://{group['targets'][0]}/metrics", timeout=10) as answer:
        assert b"ldcq_rpc_seconds" in answer.read()
    assert metrics_targets.addresses(file.parent) == {"prior-0@bcq_h": server.metrics_address}
    server.drain(0)
    assert metrics_targets.addresses(file.parent) == {}

    (tmp_path / "file").touch()
    bad = Server(metrics_port=0, metrics_targets=tmp_path / "file" / "x.json")
    with pytest.raises(ServerError, match=r"cannot write .*x\.json"):
        bad.start()


def test_a_socket_file_is_taken_over_from_the_dead_but_not_from_the_living(
    spawn: Spawn, start: Start, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/prior.sock"
    process, bound = spawn("--listen", address)
    assert bound == address
    with pytest.raises(ServerError, match="another process serves there"):
        Server(address).start()
    process.kill()
    process.wait()
    assert (tmp_path / "prior.sock").exists()
    with PriorClient(start(NumpyPrior(), address=address)) as client:
        assert client.describe().implementation == "numpy"


def test_sigterm_ends_calls_under_way_with_their_answer_and_then_the_process(spawn: Spawn) -> None:
    process, address = spawn("--delay", "1.0")
    with PriorClient(address, patience=0.0) as client:
        client.wait_ready(lambda _: None, threading.Event())
        future = client.sample_async(draw(np.zeros((2, 3)), 4, seed=1))
        time.sleep(0.3)  # the call is under way
        process.send_signal(signal.SIGTERM)
        assert future.result(timeout=20).latents.shape == (2, 4, 2)
    assert process.wait(timeout=20) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "drained\n"


def test_a_draining_server_says_so_and_ends_streams_of_progress() -> None:
    server = Server(linger=0.3)
    progress = StageServicer(Progress("vae"))
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, progress, stage.FULL_NAME)
    address = server.start()
    with connect(address) as channel:
        stream = stage_pb2_grpc.StageServiceStub(channel).Watch(
            stage_pb2.StageServiceWatchRequest(), timeout=60
        )
        next(stream)
        drains = threading.Thread(target=server.drain)
        drains.start()
        deadline = time.monotonic() + 10
        while _health(address) != "NOT_SERVING":
            assert time.monotonic() < deadline
        list(stream)  # ends by itself: no status but OK
        drains.join(timeout=30)
        assert not drains.is_alive()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_sets_the_event_and_the_second_ends_the_process(
    number: signal.Signals, code: int
) -> None:
    script = (
        "from common.rpc.signals import StopSignals\n"
        "with StopSignals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    stop.event.wait()\n"
        "    print(stop.exit_code, flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        assert process.stdout.readline() == f"{code}\n"
        os.kill(process.pid, number)
        assert process.wait(timeout=20) == -number


def test_without_a_signal_the_exit_code_is_zero() -> None:
    assert StopSignals().exit_code == 0
