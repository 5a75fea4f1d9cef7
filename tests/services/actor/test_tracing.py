"""One trace from `Act` through `Sample`, its queue and its compute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc import tracing
from common.rpc.codec import encode
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from ldcq.v1 import actor_pb2, actor_pb2_grpc
from services.actor.priors import Priors
from services.actor.server import FULL_NAME, add_actor
from tests.services.actor.conftest import Pipeline

ACT, SAMPLE = "ldcq.v1.ActorService/Act", "ldcq.v1.PriorService/Sample"


@pytest.fixture
def exporter() -> Iterator[Any]:
    """Keeps the spans of this process, in which actor and prior both serve."""
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    kept = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(kept))
    tracing.trace_with(provider)
    yield kept
    tracing.trace_with(None)


@pytest.fixture
def actor(pipeline: Pipeline) -> Iterator[str]:
    server = Server(linger=0, grace=0.5)
    settings = ServiceSettings(pipeline.config, pipeline.store, prior_targets=pipeline.targets)
    with Priors(pipeline.config, pipeline.targets, pipeline.store) as priors:
        methods = add_actor(server, settings, priors)
        address = server.start()
        methods.start()
        yield address
        server.drain()
        methods.stop()


def act(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        states = encode(np.zeros((2, 4), np.float32))
        actor_pb2_grpc.ActorServiceStub(channel).Act(
            actor_pb2.ActorServiceActRequest(states=states), timeout=30, wait_for_ready=True
        )


def until_ready(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(200):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=FULL_NAME), timeout=30)
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            Event().wait(0.1)
    raise AssertionError("the actor did not become ready")


def test_an_act_is_one_trace_down_to_the_priors_compute(actor: str, exporter: Any) -> None:
    until_ready(actor)
    act(actor)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    parents = {ACT: None, SAMPLE: ACT, "queue": SAMPLE, "compute": SAMPLE}
    for name, parent in parents.items():
        assert spans[name].context.trace_id == spans[ACT].context.trace_id
        expected = None if parent is None else spans[parent].context.span_id
        assert (spans[name].parent and spans[name].parent.span_id) == expected, name
        assert spans[name].start_time <= spans[name].end_time
    assert spans["queue"].end_time == spans["compute"].start_time
    assert not [name for name in spans if "Describe" in name and name.startswith("ldcq.v1.Actor")]


def test_nothing_is_traced_unless_asked_for(actor: str) -> None:
    until_ready(actor)
    act(actor)
    assert tracing.outgoing() == ()


def test_a_process_sends_its_traces_to_the_collector_of_the_environment(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    script = (
        "from common.rpc import tracing\n"
        "tracing.configure_tracing()\n"
        "with tracing.handling('/ldcq.v1.ActorService/Act', ()): tracing.elapsed(('queue', 0.1))\n"
    )
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            tracing.ENDPOINT: f"http://127.0.0.1:{server.server_port}",
            "OTEL_SERVICE_NAME": "ldcq-test",
        }
        subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True)
        server.shutdown()
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    assert ACT.encode() in sent
    assert b"ldcq-test" in sent
