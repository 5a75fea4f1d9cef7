"""Single calls of a replica, and a replica that is kept busy while others queue up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import REGISTRY

from common.rpc.prior import PriorityName, sample_request
from ldcq.v1 import prior_pb2_grpc
from services.prior.queueing import Job
from tests.draws import draw
from tests.services.prior.world import STATE, Replica


def some_states(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, STATE)).astype(np.float32)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def sample(
    replica: Replica,
    timeout: float = 30,
    *,
    priority: PriorityName = "learner",
    expected_version: str | None = None,
    **options: Any,
) -> Any:
    """A call without retries, so that the first answer counts; returns its future."""
    channel = grpc.insecure_channel(replica.address, [("grpc.enable_retries", 0)])
    stub = prior_pb2_grpc.PriorServiceStub(channel)
    asked = draw(**{"states": some_states(2), "candidates": 3, "seed": 1, **options})
    request = sample_request(asked, priority=priority, expected_version=expected_version)
    return stub.Sample.future(request, timeout=timeout)


class Waiting:
    """Work that takes until it is released."""

    key = None

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def slices(self) -> Iterator[None]:
        self.started.set()
        self.release.wait(30)
        yield from ()

    def join(self, works: Sequence[Waiting]) -> None:
        raise NotImplementedError


@contextmanager
def held(replica: Replica, rows: int = 1) -> Iterator[None]:
    """The compute thread is busy with so many rows, and what is sent meanwhile queues up."""
    work = Waiting()
    replica.process.queue.submit(Job(rows, "actor", None, work))
    assert work.started.wait(10)
    yield
    work.release.set()


def wait_for_rows(rows: int) -> None:
    for _ in range(400):
        if metric("ldcq_prior_pending_rows") == rows:
            return
        time.sleep(0.02)
    raise AssertionError(f"{metric('ldcq_prior_pending_rows')} rows wait, expected {rows}")


def code(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError):
        call.result()
    code: grpc.StatusCode = call.code()
    return code
