"""The latents of all windows, as they are written to the store."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from common.store import Meta, Store, open_latents
from ldcq.config import Config
from ldcq.data.windows import Windows
from ldcq.learning.learner import Stopped
from ldcq.vae.latents import latent_table
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae
from services.vae import export
from services.vae.export import write_latents


@pytest.fixture
def vae(config: Config, windows: Windows) -> Vae:
    torch.manual_seed(0)
    made = Vae(policy_dimensions(windows, config.vae.latent_dim), config.vae)
    made.fit_to(windows)
    return made


PROGRESS: list[tuple[int, int]] = []
META = Meta(kind="latents", parents={"vae": "a", "dataset": "b"})
LENGTHS = (1, 2)


def write(store: Store, vae: Vae, windows: Windows, stop: threading.Event | None = None) -> str:
    return write_latents(
        store,
        META,
        vae,
        windows,
        0.9,
        LENGTHS,
        variant="main",
        on_progress=lambda *counts: PROGRESS.append(counts),
        stop=stop or threading.Event(),
    )


def test_every_window_is_written(
    tmp_path: Path, vae: Vae, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS", 7)
    store = Store(tmp_path)
    table = open_latents(store, write(store, vae, windows), vae_version="a")
    assert PROGRESS[-1] == (len(windows), len(windows))
    for name, column in latent_table(vae, windows, slice(None), 0.9, LENGTHS).columns.items():
        np.testing.assert_allclose(getattr(table, name), column, rtol=1e-4, atol=1e-5)


def test_a_stop_publishes_nothing_and_leaves_the_table_free_to_be_written(
    tmp_path: Path, vae: Vae, windows: Windows
) -> None:
    store, stop = Store(tmp_path), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        write(store, vae, windows, stop)
    assert store.current("latents") is None
    assert write(store, vae, windows) == store.current("latents")
