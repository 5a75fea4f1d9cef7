"""Every method has a queue of its own, with an end; calls wait in it and may leave it."""

from __future__ import annotations

import threading
from collections import Counter

import grpc
import numpy as np
import pytest

from common.rpc.clients import PriorClient
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.common.rpc.opened import (
    DRAW,
    OWN_CONNECTION,
    SAMPLE,
    count,
    until,
)
from tests.draws import draw
from tests.numpy_prior import NumpyPrior


class Held(NumpyPrior):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def Sample(  # noqa: N802
        self, request: prior_pb2.PriorServiceSampleRequest, context: grpc.ServicerContext
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Latents, some time."""
        reply = super().Sample(request, context)
        assert self.may_answer.wait(60)
        return reply


def test_every_method_has_a_line_of_its_own_with_an_end(start: Start) -> None:
    """One call runs, one waits, and one is refused; other methods are answered meanwhile."""
    prior = Held()
    address, before = start(prior, max_workers=1, max_calls=2), count(SAMPLE, "RESOURCE_EXHAUSTED")
    with grpc.insecure_channel(address) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        calls = [stub.Sample.future(DRAW, timeout=60) for _ in range(3)]
        until(lambda: any(call.done() for call in calls))  # whichever of them came last
        (refused,) = (call for call in calls if call.done())
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"2 calls of {SAMPLE} run or wait" in refused.details()
        assert stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=20)
        assert count(SAMPLE, "RESOURCE_EXHAUSTED") == before + 1
        with PriorClient(address) as client:  # it tries again until there is room
            patient = client.sample_async(draw(np.zeros((1, 3)), 1))
            until(lambda: count(SAMPLE, "RESOURCE_EXHAUSTED") > before + 1)
            prior.may_answer.set()
            assert patient.result(timeout=60).latents.shape == (1, 1, 2)
        assert all(call.result() for call in calls if call is not refused)


def test_a_call_that_is_given_up_leaves_the_line(start: Start) -> None:
    prior = Held()
    with grpc.insecure_channel(start(prior, max_workers=1, max_calls=3)) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        first = stub.Sample.future(DRAW, timeout=60)
        until(lambda: prior.calls == 1)
        before = count(SAMPLE, "CANCELLED")
        second, third = stub.Sample.future(DRAW, timeout=60), stub.Sample.future(DRAW, timeout=1)
        until(lambda: count(SAMPLE, "CANCELLED") == before + 1)
        assert third.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        second.cancel()
        until(lambda: count(SAMPLE, "CANCELLED") == before + 2)
        more = [stub.Sample.future(DRAW, timeout=60) for _ in range(2)]  # there is room again
        prior.may_answer.set()
        assert all(call.result() for call in (first, *more))
        assert prior.calls == 3


class Attentive(NumpyPrior):
    """Looks after its caller, and remembers how the call ended."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.was_active, self.too_late = threading.Event(), False, False

    def Sample(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceSampleRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Goes on until the caller leaves."""
        assert context.add_callback(self.left.set)
        assert 0 < context.time_remaining() < 30
        assert dict(context.invocation_metadata())["who"] == "me"
        self.was_active = context.is_active()
        assert self.left.wait(20)
        self.too_late = not context.is_active() and not context.add_callback(lambda: None)
        context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")


def test_a_handler_learns_that_its_caller_has_left(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    prior = Attentive()
    with grpc.insecure_channel(start(prior)) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        call = stub.Sample.future(DRAW, timeout=20, metadata=(("who", "me"),))
        until(lambda: prior.was_active)
        call.cancel()
        until(lambda: prior.too_late)
    assert not caplog.records


def test_a_flood_is_answered_or_refused_and_all_of_it_counted(start: Start) -> None:
    """More calls than gRPC itself keeps waiting, over several connections."""
    address, total = start(NumpyPrior(delay=0.01), max_workers=4, max_calls=64), 2400
    before = Counter({code: count(SAMPLE, code) for code in ("OK", "RESOURCE_EXHAUSTED")})
    channels = [grpc.insecure_channel(address, OWN_CONNECTION) for _ in range(4)]
    calls = [
        prior_pb2_grpc.PriorServiceStub(channels[number % 4]).Sample.future(DRAW, timeout=60)
        for number in range(total)
    ]
    found = Counter(call.code().name for call in calls)
    for channel in channels:
        channel.close()
    assert found.total() == total
    assert set(found) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert all(count(SAMPLE, code) - before[code] == found[code] for code in found)


def test_a_client_that_keeps_to_the_bound_of_a_connection_is_never_refused(start: Start) -> None:
    with grpc.insecure_channel(start(NumpyPrior())) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        calls = [stub.Sample.future(DRAW, timeout=60) for _ in range(2000)]
        assert {call.code().name for call in calls} == {"OK"}
