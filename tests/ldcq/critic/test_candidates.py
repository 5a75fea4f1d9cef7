"""Both sources of candidates against a real prior service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.rpc.clients import PriorClient
from common.rpc.errors import ModelVersionError, PriorUnavailableError
from common.rpc.stage import Progress
from common.store import Store
from common.training import Checkpoints
from ldcq.config import Config
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates, OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.data.latents import LatentTable
from ldcq.learning.learner import Stopped
from services.qlearner.cache import fill_cache, open_cache

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


def online(
    config: Config,
    table: LatentTable,
    client: PriorClient,
    version: str = "p1",
    stop: threading.Event | None = None,
) -> LDCQ:
    transitions = Transitions.of(table, np.arange(40), CPU)
    replay = PrioritisedReplay(config.critic.replay, 40)
    source = OnlineCandidates(
        config, client.pinned(version), transitions, replay, stop or threading.Event()
    )
    return LDCQ(config, transitions, replay, source)


def weights(learner: LDCQ) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in learner.critic.parameters()]


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def train(learner: LDCQ, first: int, end: int) -> LDCQ:
    for step in range(first, end):
        learner.update(step)
    return learner


def through_a_checkpoint(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    checkpoints = Checkpoints(folder, "critic", {}, 1)
    checkpoints.save(1, state)
    saved = checkpoints.latest()
    assert saved is not None
    return saved[1]


def test_online_batches_do_not_depend_on_how_long_calls_take(
    make_config: MakeConfig, table: LatentTable, prior_target: str, start_prior: Any
) -> None:
    config = make_config()
    with PriorClient(prior_target) as client:
        quick = train(online(config, table, client), 0, 12)
    slow_target = start_prior(delay=0.03).address
    with PriorClient(slow_target) as client:
        slow = train(online(config, table, client), 0, 12)
        time.sleep(0.1)
    assert_same(weights(quick), weights(slow))


def test_a_replica_killed_in_the_middle_changes_nothing(
    make_config: MakeConfig, table: LatentTable, prior_target: str, start_prior: Any
) -> None:
    config = make_config(updates=30)
    with PriorClient(prior_target) as client:
        undisturbed = train(online(config, table, client), 0, 30)
    replicas = [start_prior(delay=0.02), start_prior(delay=0.02)]
    with PriorClient(",".join(replica.address for replica in replicas)) as client:
        learner = train(online(config, table, client), 0, 10)
        replicas[0].kill()
        train(learner, 10, 30)
    assert_same(weights(undisturbed), weights(learner))


def test_online_resumes_bit_for_bit_with_calls_pending(
    make_config: MakeConfig, table: LatentTable, prior_target: str, tmp_path: Path
) -> None:
    config = make_config()
    with PriorClient(prior_target) as client:
        whole = online(config, table, client)
        train(whole, 0, 5)
        state = through_a_checkpoint(whole.state_dict(), tmp_path)
        assert len(state["source"]["indices"]) == 3, (
            "as many batches drawn ahead as calls in flight"
        )
        train(whole, 5, 12)
        resumed = online(config, table, client)
        resumed.load_state_dict(state)
        train(resumed, 5, 12)
        assert_same(weights(whole), weights(resumed))
        assert len(whole.state_dict()["source"]["indices"]) == 0, "nothing is drawn beyond the end"


def test_cache_resumes_bit_for_bit(
    make_config: MakeConfig, table: LatentTable, tmp_path: Path
) -> None:
    config = make_config(candidate_source="cache")
    cached = np.random.default_rng(0).normal(size=(40, 6, 2)).astype(np.float16)

    def fresh() -> LDCQ:
        replay = PrioritisedReplay(config.critic.replay, 40)
        transitions = Transitions.of(table, np.arange(40), CPU)
        return LDCQ(config, transitions, replay, CachedCandidates(config, cached, replay))

    whole = train(fresh(), 0, 5)
    state = through_a_checkpoint(whole.state_dict(), tmp_path)
    train(whole, 5, 12)
    resumed = fresh()
    resumed.load_state_dict(state)
    assert_same(weights(whole), weights(train(resumed, 5, 12)))


def test_the_batch_drawn_ahead_uses_the_priorities_of_its_time(
    make_config: MakeConfig, table: LatentTable, prior_target: str
) -> None:
    """With a deeper pipeline later batches are drawn by older priorities: other windows."""
    with PriorClient(prior_target) as client:
        shallow, deep = (
            train(online(make_config(calls_in_flight=depth), table, client), 0, 12)
            for depth in (1, 6)
        )
    assert any((a != b).any() for a, b in zip(weights(shallow), weights(deep), strict=True))


def test_another_model_version_is_refused(
    make_config: MakeConfig, table: LatentTable, prior_target: str
) -> None:
    with PriorClient(prior_target, version_patience=0.2) as client:
        learner = online(make_config(), table, client, version="p2")
        with pytest.raises(ModelVersionError, match=r"p2.*p1"):
            learner.update(0)


def test_a_prior_that_stays_away_leaves_a_state_to_resume_from(
    make_config: MakeConfig, table: LatentTable, prior_target: str, start_prior: Any
) -> None:
    config = make_config()
    prior = start_prior()
    with PriorClient(prior.address, patience=0.5) as client:
        learner = train(online(config, table, client), 0, 5)
        prior.kill()
        with pytest.raises(PriorUnavailableError, match=r"start it with"):
            train(learner, 5, 12)
    state = learner.state_dict()
    done = state["source"]["next"] - len(state["source"]["indices"])
    assert 5 <= done < 12
    with PriorClient(prior_target) as client:
        resumed = online(config, table, client)
        resumed.load_state_dict(state)
        train(resumed, done, 12)
        assert_same(weights(resumed), weights(train(online(config, table, client), 0, 12)))


def test_waiting_for_an_absent_prior_ends_when_asked(
    make_config: MakeConfig, table: LatentTable
) -> None:
    stop = threading.Event()
    with PriorClient("127.0.0.1:1") as client:
        learner = online(make_config(), table, client, stop=stop)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(Stopped, match="can be resumed"):
            learner.update(0)


def test_every_update_uses_distinct_cached_candidates_of_its_own_windows(
    make_config: MakeConfig,
) -> None:
    config = make_config(candidate_source="cache")
    # The value of a latent says whose it is: window, candidate.
    window, candidate = np.meshgrid(np.arange(40), np.arange(6), indexing="ij")
    cached = np.stack([window, candidate], axis=-1).astype(np.float16)
    source = CachedCandidates(config, cached, PrioritisedReplay(config.critic.replay, 40))
    used = set()
    for step in range(20):
        minibatch, latents = source.take(step)
        assert latents.shape == (8, 4, 2)
        assert latents.dtype == torch.float32
        np.testing.assert_array_equal(latents[:, :, 0], np.tile(minibatch.indices[:, None], (1, 4)))
        assert all(len(set(row.tolist())) == 4 for row in latents[:, :, 1])
        used |= set(latents[:, :, 1].flatten().tolist())
    assert used == set(range(6))


def fill(
    config: Config,
    table: LatentTable,
    store: Store,
    client: PriorClient,
    stop: threading.Event | None = None,
) -> np.ndarray:
    progress, windows = Progress("critic"), Transitions.of(table, np.arange(40), CPU)
    cache = open_cache(store, config, "latents", "p1", windows)
    try:
        fill_cache(cache, client.pinned("p1"), windows, config, progress, stop or threading.Event())
        snapshot = progress.snapshot()
        assert (snapshot.step, snapshot.total) == (cache.chunks, cache.chunks)
        assert snapshot.message == "drawing candidates"
        return cache.load()
    finally:
        cache.close()


def test_a_cache_holds_the_prior_s_latents_of_every_next_state(
    make_config: MakeConfig,
    table: LatentTable,
    prior_target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.qlearner.cache.LATENTS_PER_CALL", 600 * 8)
    config = make_config(candidate_source="cache", cached_candidates=600)
    with PriorClient(prior_target) as client:
        cached = fill(config, table, Store(tmp_path), client)
        again = fill(config, table, Store(tmp_path / "other"), client)
    np.testing.assert_array_equal(cached, again)
    assert cached.shape == (40, 600, 2)
    assert cached.dtype == np.float16
    # The prior's latents are normal around the state's first coordinate.
    expected = np.tile(table.next_state[:, :1], (1, 2))
    np.testing.assert_allclose(cached.astype(np.float64).mean(1), expected, atol=0.2)
    assert len(np.unique(cached[:, 0, 0] - cached[:, 1, 0])) > 30, "calls differ in their seeds"


def test_an_interrupted_cache_goes_on_where_it_was(
    make_config: MakeConfig,
    table: LatentTable,
    start_prior: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.qlearner.cache.LATENTS_PER_CALL", 24)  # Four states a call.
    config = make_config(candidate_source="cache", calls_in_flight=2)
    prior = start_prior()
    with PriorClient(prior.address, patience=0.3) as client:
        expected = fill(config, table, Store(tmp_path / "whole"), client)
        store = Store(tmp_path / "interrupted")
        windows = Transitions.of(table, np.arange(40), CPU)
        cache = open_cache(store, config, "latents", "p1", windows)
        written = 0
        write = cache.write

        def die_after_three(chunk: int, latents: np.ndarray) -> None:
            nonlocal written
            write(chunk, latents)
            written += 1
            if written == 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(cache, "write", die_after_three)
        progress, stop = Progress("critic"), threading.Event()
        with pytest.raises(KeyboardInterrupt):
            fill_cache(cache, client.pinned("p1"), windows, config, progress, stop)
        cache.close()
        assert len(open_cache(store, config, "latents", "p1", windows).missing()) == 7
        np.testing.assert_array_equal(fill(config, table, store, client), expected)
        prior.kill()
        # Complete: the prior is not needed any more.
        np.testing.assert_array_equal(fill(config, table, store, client), expected)
