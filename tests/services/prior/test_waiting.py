"""Calls that wait for the compute thread: overtaken, joined, given up, refused."""

from __future__ import annotations

from typing import Any

import grpc

from common.rpc.clients import PriorClient
from common.rpc.prior import PriorityName
from common.store import Store
from ldcq.config import SamplingConfig
from ldcq.latent_prior import MAX_ROWS
from tests.services.prior.calls import code, held, metric, sample, some_states, wait_for_rows
from tests.services.prior.conftest import StartReplica
from tests.services.prior.world import LATENT, publish, small_config

LONG = SamplingConfig(steps=20, extra_steps=300)


def test_an_actor_overtakes_learners(store: Store, start_replica: StartReplica) -> None:
    """The actor's few rows wait for one block of the learner's many, not for all of them."""
    publish(store, small_config())
    replica = start_replica().ready()
    learner = sample(replica, candidates=MAX_ROWS // 2, options=LONG)
    wait_for_rows(MAX_ROWS)
    reply = sample(replica, priority="actor").result()
    assert not learner.done()
    assert reply.compute_seconds > 0
    learner.cancel()
    wait_for_rows(0)


def test_small_calls_that_wait_are_computed_at_once_and_get_the_same_bits(
    store: Store, start_replica: StartReplica
) -> None:
    publish(store, small_config())
    replica = start_replica().ready()

    def small(index: int, priority: PriorityName) -> Any:
        states = some_states(1 + index % 3, seed=index)
        return sample(
            replica, states=states, candidates=1 + 13 * index, seed=index, priority=priority
        )

    alone = [small(index, "learner").result().latents.data for index in range(8)]
    batches = metric("ldcq_prior_batch_calls_count")
    with held(replica):
        calls = [small(index, "actor") for index in range(8)]
        wait_for_rows(1 + sum((1 + index % 3) * (1 + 13 * index) for index in range(8)))
    assert [call.result().latents.data for call in calls] == alone
    assert metric("ldcq_prior_batch_calls_count") - batches == 2  # what held, and all of them


def test_defaults_that_are_spelled_out_join_those_that_are_left_out(
    store: Store, start_replica: StartReplica
) -> None:
    sampling = {**small_config().prior.sampling.model_dump(), "temperature": 0.7}
    publish(store, small_config(sampling=sampling))
    replica = start_replica().ready()
    with PriorClient(replica.address) as client:
        defaults = client.describe().defaults
    alone = sample(replica).result().latents.data
    batches = metric("ldcq_prior_batch_calls_count")
    with held(replica):
        calls = [sample(replica, options=options) for options in (SamplingConfig(), defaults)]
        other = sample(replica, options=SamplingConfig(steps=4))
        wait_for_rows(19)
    assert [call.result().latents.data for call in calls] == [alone, alone]
    assert other.result().latents.data != alone
    assert metric("ldcq_prior_batch_calls_count") - batches == 3  # what held, both, the other


def test_a_state_that_overflows_is_named_and_spoils_no_call_it_was_joined_with(
    store: Store, start_replica: StartReplica
) -> None:
    publish(store, small_config())
    replica = start_replica().ready()
    alone = sample(replica).result().latents.data
    states = some_states(3)
    states[1] = 3e38
    with held(replica):
        calls = [sample(replica), sample(replica, states=states), sample(replica)]
        wait_for_rows(22)
    assert [call.result().latents.data for call in (calls[0], calls[2])] == [alone, alone]
    assert calls[1].code() is grpc.StatusCode.INVALID_ARGUMENT
    assert calls[1].details().startswith("states: got a row 1 whose latents are not finite")


def test_refuses_rows_beyond_the_queue(store: Store, start_replica: StartReplica) -> None:
    publish(store, small_config())
    replica = start_replica(queue_rows=5000).ready()
    full = metric("ldcq_prior_rejections_total", reason="queue_full")
    with held(replica, rows=4800):
        refused = sample(replica, candidates=2400)
        assert code(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "4800 rows are waiting" in refused.details()
    assert metric("ldcq_prior_rejections_total", reason="queue_full") == full + 1
    assert len(sample(replica, candidates=2400).result().latents.data) == 2 * 2400 * LATENT * 4


def test_expired_and_cancelled_calls_cost_nothing(
    store: Store, start_replica: StartReplica
) -> None:
    publish(store, small_config())
    replica = start_replica().ready()
    done = metric("ldcq_prior_rows_total")
    with held(replica):
        expired = sample(replica, timeout=2.0)
        cancelled = sample(replica, candidates=40)
        wait_for_rows(87)
        cancelled.cancel()
        assert code(expired) is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for_rows(1)
    sample(replica).result()
    wait_for_rows(0)
    assert metric("ldcq_prior_rows_total") - done == 6
