"""A model that follows CURRENT."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from common.store import Artifact, Follower, Meta, Store
from tests.following import wait_loaded


def publish(store: Store, number: int, variant: str = "main") -> str:
    return store.publish(Meta(kind="prior"), {"w": np.array(number)}, "", variant)


def weight(artifact: Artifact) -> int:
    return int(artifact.tensors["w"])


@pytest.fixture
def follower(store: Store) -> Iterator[Follower[int]]:
    follower = Follower(store, "prior", "main", weight, poll=0.01)
    follower.start()
    yield follower
    follower.stop()


def test_it_takes_the_first_and_every_later_one(store: Store, follower: Follower[int]) -> None:
    assert follower.current() is None
    publish(store, 9, "bcq_h")
    first = publish(store, 1)
    assert wait_loaded(follower, 10) == (first, 1)
    second = publish(store, 2)
    assert wait_loaded(follower, 10, second) == (second, 2) == follower.current()
    store.point("prior", first)
    assert wait_loaded(follower, 10, first) == (first, 1)


def test_the_old_one_serves_until_the_new_one_is_loaded(store: Store) -> None:
    loading, go_on = threading.Event(), threading.Event()
    swapped: list[tuple[str, int]] = []

    def load(artifact: Artifact) -> int:
        if weight(artifact) == 2:
            loading.set()
            assert go_on.wait(10)
        return weight(artifact)

    follower = Follower(
        store, "prior", "main", load, poll=0.01, on_swap=lambda v, m: swapped.append((v, m))
    )
    first = publish(store, 1)
    follower.start()
    wait_loaded(follower, 10)
    second = publish(store, 2)
    assert loading.wait(10)
    assert follower.current() == (first, 1)
    go_on.set()
    assert wait_loaded(follower, 10, second) == (second, 2)
    follower.stop()
    assert swapped == [(first, 1), (second, 2)]


def test_callers_are_told_of_a_damaged_one_without_its_path(
    store: Store, follower: Follower[int], caplog: pytest.LogCaptureFixture
) -> None:
    files = {"weights.safetensors": b"half", "meta.json": b'{"kind":"prior"}'}
    store.place.add(store.key("prior", "00000000deadbeef"), files)
    store.point("prior", "00000000deadbeef")
    until = time.monotonic() + 10
    while not follower.problem and time.monotonic() < until:
        time.sleep(0.01)
    assert follower.problem == "prior: cannot be loaded; the server's log says why"
    assert "00000000deadbeef" in caplog.text


def test_a_damaged_one_is_reported_once_and_the_old_one_stays(
    store: Store, follower: Follower[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = publish(store, 1)
    wait_loaded(follower, 10)
    with caplog.at_level(logging.ERROR):
        bad = "00000000deadbeef"
        files = {"weights.safetensors": b"half", "meta.json": b'{"kind":"prior"}'}
        store.place.add(store.key("prior", bad), files)
        store.point("prior", bad)
        third = publish_after(store, caplog)
    assert len(caplog.records) == 1
    assert "damaged" in caplog.text
    assert first != third
    assert wait_loaded(follower, 10, third) == (third, 3)


def publish_after(store: Store, caplog: pytest.LogCaptureFixture) -> str:
    pause = threading.Event()
    for _ in range(1000):
        if caplog.records:
            break
        pause.wait(0.01)
    pause.wait(0.1)
    return publish(store, 3)
