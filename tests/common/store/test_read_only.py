"""A store that this user may only read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.store import Meta, NotMadeError, Store, StoreError, made
from ldcq.config import load
from tests.read_only import read_only


def publish(store: Store, number: int, kind: str = "evaluation") -> str:
    return store.publish(Meta(kind=kind), {"w": np.array(number)}, "")


def test_what_is_made_from_it_goes_elsewhere_and_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "scratch"))
    own = Store(tmp_path / "own")
    vae, first = publish(own, 1, "vae"), publish(own, 1)
    (own.root / "datasets" / "mine").mkdir(parents=True)
    with read_only(own.root, tmp_path / "ro") as folder:
        store = Store(folder)
        assert not store.writable
        assert store.url == str(folder)
        assert store.root == tmp_path / "scratch" / str(folder).strip("/")
        assert (store.root / "datasets" / "mine").is_dir()
        with pytest.raises(StoreError, match=f"store {folder} is not writable: this user may only"):
            store.check_writable()
        assert store.load("vae", vae).version == store.current("vae") == vae
        with pytest.raises(NotMadeError, match="with a store that can be written makes it"):
            made(store, load("demo"), "main", ["vae"])
        second = publish(store, 2)
        for again in (store, Store(folder)):
            assert again.versions("evaluation") == sorted([first, second])
            assert again.current("evaluation") == second
            assert again.pointers("evaluation") == {"main": second}
            assert int(again.load("evaluation", second).tensors["w"]) == 2
        assert own.versions("evaluation") == [first]
        # What others publish into the store itself is seen.
        if own.writable and (tmp_path / "ro").is_mount():
            newer = publish(own, 3, "vae")
            assert store.current("vae") == newer


def test_to_read_it_nothing_has_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "file"))
    own = Store(tmp_path / "own")
    vae = publish(own, 1, "vae")
    with read_only(own.root, tmp_path / "ro") as folder:
        store = Store(folder)
        assert store.load("vae", vae).version == vae
        with pytest.raises((StoreError, OSError)):
            publish(store, 2)
