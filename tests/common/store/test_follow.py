"""A model that follows CURRENT."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from common.store import Artifact, Follower, Meta, Stopped, Store


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
    with pytest.raises(TimeoutError, match="no prior"):
        follower.wait_ready(0.05)
    publish(store, 9, "bcq_h")
    first = publish(store, 1)
    assert follower.wait_ready(10) == (first, 1)
    second = publish(store, 2)
    assert follower.wait_ready(10, version=second) == (second, 2) == follower.current()
    store.point("prior", first)
    assert follower.wait_ready(10, version=first) == (first, 1)


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
    follower.wait_ready(10)
    second = publish(store, 2)
    assert loading.wait(10)
    assert follower.current() == (first, 1)
    go_on.set()
    assert follower.wait_ready(10, version=second) == (second, 2)
    follower.stop()
    assert swapped == [(first, 1), (second, 2)]


def test_a_damaged_one_is_reported_once_and_the_old_one_stays(
    store: Store, follower: Follower[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = publish(store, 1)
    follower.wait_ready(10)
    with caplog.at_level(logging.ERROR):
        bad = "00000000deadbeef"
        files = {"weights.safetensors": b"half", "meta.json": b'{"kind":"prior"}'}
        store.place.add(store.key("prior", bad), files)
        store.point("prior", bad)
        third = publish_after(store, caplog)
    assert len(caplog.records) == 1
    assert "damaged" in caplog.text
    assert first != third
    assert follower.wait_ready(10, version=third) == (third, 3)


def publish_after(store: Store, caplog: pytest.LogCaptureFixture) -> str:
    pause = threading.Event()
    for _ in range(1000):
        if caplog.records:
            break
        pause.wait(0.01)
    pause.wait(0.1)
    return publish(store, 3)


def test_stopping_wakes_who_waits(store: Store) -> None:
    follower: Follower[int] = Follower(store, "prior", "main", weight, poll=0.01)
    follower.start()
    threading.Timer(0.05, follower.stop).start()
    with pytest.raises(Stopped):
        follower.wait_ready(10)
