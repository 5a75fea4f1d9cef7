"""The service as a process of its own, started and ended as a supervisor does it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from common.rpc.clients import PriorClient
from common.store import Store
from ldcq.config import dump
from ldcq.v1 import stage_pb2, stage_pb2_grpc
from tests.draws import draw
from tests.services.prior.world import LATENT, STATE, publish, small_config

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    config = tmp_path / "config.yaml"
    config.write_text(dump(small_config()))
    started: list[subprocess.Popen[str]] = []

    def run(store: Store, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        options = ("--config", str(config), "--store", str(store.root))
        command = [sys.executable, "-m", "services.prior", *arguments, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split()[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_trains_then_serves_then_drains(prepared: Store, start: Start) -> None:
    process, address = start(prepared, "serve", "--train")
    with grpc.insecure_channel(address) as channel:
        *_, last = stage_pb2_grpc.StageServiceStub(channel).Watch(
            stage_pb2.StageServiceWatchRequest()
        )
    assert last.state == stage_pb2.STAGE_STATE_PUBLISHED
    client = PriorClient(address)
    states = np.ones((2, STATE), np.float32)
    reply = client.pinned(last.artifact_version).sample(draw(states, 3))
    assert reply.latents.shape == (2, 3, LATENT)
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_sigterm_ends_a_trainer_that_waits(store: Store, start: Start) -> None:
    process, address = start(store, "serve", "--train")
    with grpc.insecure_channel(address) as channel:
        request = stage_pb2.StageServiceWatchRequest()
        for update in stage_pb2_grpc.StageServiceStub(channel).Watch(request):
            if "waiting for vae" in update.message:
                break
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


def test_serves_on_a_unix_socket_as_on_a_port(store: Store, start: Start, tmp_path: Path) -> None:
    version = publish(store, small_config())
    address = f"unix:{tmp_path}/prior.sock"
    _, told = start(store, "serve", "--listen", address)
    assert told == address
    with PriorClient(address) as client:
        client.wait_ready(lambda _: None, threading.Event(), expected_version=version)
    runner = CliRunner()
    result = runner.invoke(app, ["conformance", "prior", address])
    assert result.exit_code == 0, result.output
