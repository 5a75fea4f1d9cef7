"""One target string reaches all healthy replicas behind it; what is no target is refused."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import numpy as np
import pytest

from common.rpc import options
from common.rpc.channel import TargetError, connect, resolve
from common.rpc.prior import FULL_NAME, sample_request
from common.rpc.server import Server
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.draws import draw
from tests.numpy_prior import NumpyPrior


def _call(channel: grpc.Channel, count: int) -> None:
    stub = prior_pb2_grpc.PriorServiceStub(channel)
    for seed in range(count):
        stub.Sample(
            sample_request(draw(np.zeros((1, 3)), 1, seed=seed)), timeout=10, wait_for_ready=True
        )


@pytest.mark.parametrize("as_list", [False, True])
def test_calls_go_round_all_replicas_of_a_list(start: Start, as_list: bool) -> None:
    replicas = [NumpyPrior(), NumpyPrior()]
    addresses = [start(replica) for replica in replicas]
    with connect(addresses if as_list else ",".join(addresses)) as channel:
        _call(channel, 20)
    assert sum(replica.calls for replica in replicas) == 20
    assert min(replica.calls for replica in replicas) >= 5


def test_calls_go_round_all_socket_files_of_a_list(start: Start, tmp_path: Path) -> None:
    replicas = [NumpyPrior(), NumpyPrior()]
    addresses = [
        start(replica, address=f"unix:{tmp_path}/{i}") for i, replica in enumerate(replicas)
    ]
    with connect(addresses) as channel:
        _call(channel, 20)
    assert min(replica.calls for replica in replicas) >= 5


def test_a_replica_that_is_not_serving_gets_no_calls(start: Start) -> None:
    healthy, loading = NumpyPrior(), NumpyPrior()
    server = Server(linger=0.0)
    server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, loading, FULL_NAME)
    addresses = [start(healthy), server.start()]
    try:
        with connect(addresses) as channel:
            _call(channel, 20)
        assert (healthy.calls, loading.calls) == (20, 0)
    finally:
        server.drain(0)


def test_without_health_checks_a_server_that_is_not_serving_can_be_called() -> None:
    server = Server(linger=0.0)
    server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, NumpyPrior(), FULL_NAME)
    address = server.start()
    try:
        with connect(address, health_service=None) as channel:
            stub = prior_pb2_grpc.PriorServiceStub(channel)
            reply = stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=10)
        assert reply.implementation == "numpy"
    finally:
        server.drain(0)


@pytest.mark.parametrize("states", [20_000, 400_000])
def test_messages_beyond_the_limit_of_either_end_are_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch, states: int
) -> None:
    """20,000 states make a reply, 400,000 already a request that is too large for the channel."""
    prior = NumpyPrior()
    address = start(prior)
    monkeypatch.setattr(options, "MAX_MESSAGE_BYTES", 1 << 20)
    with connect(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        request = sample_request(draw(np.zeros((states, 3)), 20))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Sample(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())
    assert prior.calls == (1 if states == 20_000 else 0)


def test_a_server_refuses_a_message_beyond_its_own_limit(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = NumpyPrior()
    with monkeypatch.context() as patch:
        patch.setattr(options, "MAX_MESSAGE_BYTES", 1 << 20)
        address = start(prior)
    with connect(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Sample(sample_request(draw(np.zeros((100_000, 3)), 1)), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert prior.calls == 0


def test_the_default_limits_let_a_batch_of_the_paper_through(start: Start) -> None:
    """128 states x 500 candidates: more than gRPC's own 4 MiB by far with 16 latent dimensions."""
    with connect(start(NumpyPrior())) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        reply = stub.Sample(sample_request(draw(np.zeros((128, 3)), 500 * 8)), timeout=30)
    assert len(reply.latents.data) == 128 * 500 * 16 * 4


@pytest.mark.parametrize(
    ("target", "resolved"),
    [
        ("prior:50051", "dns:///prior:50051"),
        ("dns:///prior:50051", "dns:///prior:50051"),
        ("unix:/run/prior", "unix:/run/prior"),
        ("unix:/a, unix:/b", "unix:/a,/b"),
        ("127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        (["127.0.0.1:1", "127.0.0.1:2"], "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_targets_as_grpc_takes_them(target: str | list[str], resolved: str) -> None:
    assert resolve(target) == resolved


def test_hosts_of_a_list_are_looked_up() -> None:
    addresses = {str(a[4][0]) for a in socket.getaddrinfo("localhost", 7, family=socket.AF_INET)}
    assert resolve("localhost:7,127.0.0.1:8") in {f"ipv4:{a}:7,127.0.0.1:8" for a in addresses}


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("", "expected HOST:PORT"),
        ("prior", "got 'prior', expected HOST:PORT"),
        ("prior:http", "got 'prior:http'"),
        ("prior:99999", "got 'prior:99999'"),
        ("http://prior:50051", "got 'http://prior:50051'"),
        ("127.0.0.1:1,no-such-host.invalid:2", "host 'no-such-host.invalid' is not known"),
        ("127.0.0.1:1,[::1]:2", "mix IPv4-only and IPv6-only"),
    ],
)
def test_what_is_no_target_is_refused(target: str, complaint: str) -> None:
    with pytest.raises(TargetError, match=complaint.replace("[", r"\[")):
        resolve(target)
