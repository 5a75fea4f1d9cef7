"""The remote policy against a made-up actor: what it sends, what it believes, TLS and token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from cli.certificates import environment, issue
from common.rpc.codec import decode, encode
from common.rpc.errors import CallError, FailedPreconditionError
from common.rpc.policy import RemotePolicy
from common.rpc.security import Security
from common.rpc.server import Server
from ldcq.v1 import actor_pb2, actor_pb2_grpc

FULL_NAME = actor_pb2.DESCRIPTOR.services_by_name["ActorService"].full_name
STATES = np.zeros((2, 3), np.float32)


class EchoActor(actor_pb2_grpc.ActorServiceServicer):
    """Actions are how many calls there were; the token counts them; goals are remembered."""

    def __init__(self, actions: np.ndarray | None = None) -> None:
        self.actions = actions
        self.requests: list[actor_pb2.ActorServiceActRequest] = []

    def Describe(  # noqa: N802
        self,
        request: actor_pb2.ActorServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> actor_pb2.ActorServiceDescribeResponse:
        return actor_pb2.ActorServiceDescribeResponse(
            methods=["ldgc", "prior"], state_dim=3, action_dim=1, goal_dim=2
        )

    def Act(  # noqa: N802
        self,
        request: actor_pb2.ActorServiceActRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> actor_pb2.ActorServiceActResponse:
        self.requests.append(request)
        if request.plan_token == b"2":
            raise FailedPreconditionError("plan_token was made by the models 'a', now 'b'")
        actions = np.full((2, 1), len(self.requests), np.float32)
        return actor_pb2.ActorServiceActResponse(
            actions=encode(actions if self.actions is None else self.actions),
            plan_token=str(len(self.requests)).encode(),
        )

    def Evaluate(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        raise NotImplementedError


def _served(servicer: EchoActor, security: Security | None = None) -> tuple[Server, str]:
    server = Server(linger=0, grace=0.1, security=security)
    server.add(actor_pb2_grpc.add_ActorServiceServicer_to_server, servicer, FULL_NAME)
    address = server.start()
    server.set_serving(FULL_NAME, True)
    return server, address


@pytest.fixture
def actor() -> Iterator[tuple[EchoActor, str]]:
    servicer = EchoActor()
    server, address = _served(servicer)
    yield servicer, address
    server.drain()


def test_the_plan_goes_back_with_the_next_states(actor: tuple[EchoActor, str]) -> None:
    servicer, address = actor
    with RemotePolicy(address, method="ldgc", seed=7) as policy:
        policy.reset(np.array([True, False]))  # before the first step there is nothing to drop
        policy.act(STATES, goals=np.ones((2, 2)))
        policy.reset(np.array([False, True]))
        policy.act(STATES, goals=np.ones((2, 2)))
    first, second = servicer.requests
    assert (first.method, first.seed) == ("ldgc", 7)
    assert not first.HasField("plan_token")
    assert not first.HasField("restart")
    assert second.plan_token == b"1"
    restart = decode(second.restart, field="restart", shape=(2,), dtype=np.bool_)
    assert restart.tolist() == [False, True]
    np.testing.assert_array_equal(decode(second.goals, field="goals", shape=(2, 2)), 1)


def test_models_that_changed_are_said_and_a_reset_goes_on(actor: tuple[EchoActor, str]) -> None:
    with RemotePolicy(actor[1]) as policy:
        policy.act(STATES)
        policy.act(STATES)
        with pytest.raises(CallError, match=r"FAILED_PRECONDITION.*reset\(\) begins a new plan"):
            policy.act(STATES)
        policy.reset()
        assert policy.act(STATES).tolist() == [[4], [4]]


def test_goals_of_another_shape_are_refused(actor: tuple[EchoActor, str]) -> None:
    servicer, address = actor
    with RemotePolicy(address) as policy:
        with pytest.raises(ValueError, match=r"goals: got shape \(2, 3\), expected shape \(2, 2\)"):
            policy.act(STATES, goals=np.ones((2, 3)))
        assert not servicer.requests


@pytest.mark.parametrize(
    ("actions", "dtype"),
    [(np.zeros((2, 1), np.int64), np.int64), (np.zeros((2, 5), np.float32), np.float32)],
)
def test_actions_are_the_callers_own(actions: np.ndarray, dtype: type) -> None:
    server, address = _served(EchoActor(actions))
    with RemotePolicy(address) as policy:
        found = policy.act(STATES)
    server.drain()
    assert found.dtype == dtype
    found += 1  # not a read-only view of the message


def test_a_reply_that_makes_no_sense_is_refused() -> None:
    server, address = _served(EchoActor(np.full((2, 1), np.nan, np.float32)))
    with RemotePolicy(address) as policy, pytest.raises(CallError, match="makes no sense"):
        policy.act(STATES)
    server.drain()


def test_tls_and_token_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    server, address = _served(EchoActor())
    with RemotePolicy(address) as policy:
        assert policy.act(STATES).shape == (2, 1)
    with pytest.raises(CallError, match="UNAVAILABLE"):
        RemotePolicy(address, security=Security(), timeout=20)
    server.drain()
