"""The deadline of a call bounds the calls that its handler makes, and leaves time to say why."""

from __future__ import annotations

import math
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from common.rpc import deadlines
from common.rpc.clients import PriorClient
from common.rpc.prior import sample_request
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.draws import draw
from tests.numpy_prior import NumpyPrior, serve

DRAW = draw(np.zeros((1, 3)), 1)
Ask = Callable[[PriorClient], object]


class Relay(NumpyPrior):
    """A server that another server's answer is needed for, as an actor needs a prior's."""

    def __init__(self, client: PriorClient, ask: Ask) -> None:
        super().__init__()
        self._client, self._ask = client, ask

    def Sample(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceSampleRequest,
        context: grpc.ServicerContext,
    ) -> prior_pb2.PriorServiceSampleResponse:
        """What this server makes of it, once the other one has answered."""
        self._ask(self._client)
        return super().Sample(request, context)


ASKS: dict[str, Ask] = {
    "now": lambda client: client.sample(DRAW),
    "in another thread": lambda client: client.sample_async(DRAW).result(),
}


def test_without_a_deadline_a_call_takes_the_time_it_is_given() -> None:
    assert deadlines.at_most(5.0) == 5.0
    with deadlines.handling(None):
        assert deadlines.at_most(math.inf) == math.inf


@pytest.mark.parametrize(("given", "left"), [(2.0, 1.8), (100.0, 99.0), (0.0, 0.0), (-1.0, 0.0)])
def test_a_part_of_the_deadline_is_kept_for_the_answer(given: float, left: float) -> None:
    with deadlines.handling(given):
        assert left - 0.1 <= deadlines.at_most(1000.0) <= left
        assert deadlines.at_most(0.0) == 0.0
    assert deadlines.at_most(1000.0) == 1000.0


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_caller_learns_who_is_missing_before_its_deadline(start: Start, ask: Ask) -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    with PriorClient(address, patience=600.0) as client:
        error = _call(start(Relay(client, ask)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert f"prior at {address}: no answer for 4." in (error.details() or "")


def test_a_caller_learns_who_is_slow_before_its_deadline(start: Start) -> None:
    slow = start(NumpyPrior(delay=8.0))
    with PriorClient(slow, timeout=600.0) as client:
        error = _call(start(Relay(client, ASKS["now"])))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert f"prior at {slow}: " in (error.details() or "")


def _call(address: str) -> grpc.RpcError:
    """How a call with a deadline of 5 seconds fails."""
    with grpc.insecure_channel(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Sample(sample_request(DRAW), timeout=5.0)
    return caught.value
