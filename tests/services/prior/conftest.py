"""A store, and prior services over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.store import Store
from ldcq.config import Config
from tests.services.prior.world import Replica, publish_latents, publish_vae, small_config

StartReplica = Callable[..., Replica]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def start_replica(store: Store) -> Iterator[StartReplica]:
    started: list[Replica] = []

    def start(config: Config | None = None, **options: int) -> Replica:
        started.append(Replica(store, config or small_config(), **options))
        return started[-1]

    yield start
    for replica in started:
        replica.stop()


@pytest.fixture
def prepared(store: Store) -> Store:
    config = small_config()
    publish_latents(store, config, publish_vae(store, config))
    return store
