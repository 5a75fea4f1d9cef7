"""The candidate cache: resumable, checked, and whole for readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.store import (
    CandidateCache,
    CorruptArtifactError,
    Meta,
    MissingArtifactError,
    Room,
    Store,
    StoreError,
)

META = Meta(kind="candidates", parents={"prior": "p", "latents": "l"})
ROWS, N, Z, CHUNK = 25, 3, 2, 10


def new_cache(store: Store, meta: Meta = META) -> CandidateCache:
    return CandidateCache(store, meta, ROWS, N, Z, CHUNK)


def values(cache: CandidateCache, chunk: int) -> np.ndarray:
    rows = cache.rows_of(chunk)
    shape = (rows.stop - rows.start, N, Z)
    return np.random.default_rng(chunk).normal(size=shape).astype(np.float32)


def fill(cache: CandidateCache) -> None:
    for chunk in cache.missing():
        cache.write(chunk, values(cache, chunk))
    cache.complete()


@pytest.mark.parametrize("memory", [None, 0], ids=["memory", "disk"])
def test_a_filled_cache_comes_back_in_half_precision(store: Store, memory: int | None) -> None:
    cache = new_cache(store)
    assert cache.missing() == [0, 1, 2]
    assert [cache.rows_of(chunk) for chunk in range(3)] == [
        slice(0, 10),
        slice(10, 20),
        slice(20, 25),
    ]
    fill(cache)
    found = new_cache(store).load(Room(store.root, memory))
    assert isinstance(found, np.memmap) == (memory == 0)
    assert found.dtype == np.float16
    expected = np.concatenate([values(cache, chunk) for chunk in range(3)])
    np.testing.assert_array_equal(found, expected.astype(np.float16))
    assert new_cache(store).missing() == []


def test_readers_are_not_served_before_it_is_complete(store: Store) -> None:
    writer, reader = new_cache(store), new_cache(store)
    for chunk in range(3):
        with pytest.raises(MissingArtifactError, match="not complete yet"):
            reader.load()
        with pytest.raises(StoreError, match=f"{3 - chunk} of 3 chunks missing"):
            writer.complete()
        writer.write(chunk, values(writer, chunk))
    with pytest.raises(MissingArtifactError, match="not complete yet"):
        reader.load()
    assert store.find("candidates", META.spec) is None
    writer.complete()
    assert reader.load().shape == (ROWS, N, Z)
    assert store.find("candidates", META.spec) == writer.version


def test_other_parents_or_sizes_make_another_cache(store: Store) -> None:
    other = Meta(kind="candidates", parents={"prior": "q", "latents": "l"})
    versions = {
        new_cache(store).version,
        new_cache(store, other).version,
        CandidateCache(store, META, ROWS, N + 1, Z, CHUNK).version,
        CandidateCache(store, META, ROWS, N, Z, CHUNK + 1).version,
    }
    assert len(versions) == 4


def test_zeros_are_not_taken_for_missing(store: Store) -> None:
    cache = new_cache(store)
    cache.write(1, np.zeros((10, N, Z)))
    assert new_cache(store).missing() == [0, 2]


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "empty"])
def test_a_damaged_chunk_is_missing_and_can_be_written_again(store: Store, damage: str) -> None:
    cache = new_cache(store)
    fill(cache)
    place, file = store.place, store.key("candidates", cache.version) + "/latents/c/1/0/0"
    content = place.read(file)
    assert content is not None
    match damage:
        case "cut":
            place.write(file, content[:-7])
        case "flip":
            place.write(file, content[:3] + bytes([content[3] ^ 1]) + content[4:])
        case "remove":
            place.remove(file)
        case "empty":
            place.write(file, b"")
    again = new_cache(store)
    with pytest.raises(CorruptArtifactError, match="chunk 1 is missing, damaged or cut short"):
        again.load()
    assert again.missing() == [1]
    fill(again)
    expected = np.concatenate([values(cache, chunk) for chunk in range(3)])
    np.testing.assert_array_equal(again.load(), expected.astype(np.float16))


def test_what_does_not_fit_is_refused(store: Store) -> None:
    cache = new_cache(store)
    with pytest.raises(StoreError, match=r"latents: got shape \(10, 3, 2\), expected \(5, 3, 2\)"):
        cache.write(2, np.zeros((10, N, Z)))
    with pytest.raises(StoreError, match="chunk: got 3, expected 0 to 2"):
        cache.write(3, np.zeros((10, N, Z)))
    with pytest.raises(StoreError, match="below 65504"):
        cache.write(0, np.full((10, N, Z), 1e5))
    with pytest.raises(StoreError, match="candidates: got 0"):
        CandidateCache(store, META, ROWS, 0, Z, CHUNK)


WRITER = """
import sys
import numpy as np
from common.store import CandidateCache, Meta, Store
meta = Meta(kind="candidates", parents={"prior": "p", "latents": "l"})
cache = CandidateCache(Store(sys.argv[1]), meta, 2000, 32, 16, 10)
print("ready", flush=True)
for chunk in cache.missing():
    cache.write(chunk, np.full((10, 32, 16), chunk))
    print(chunk, flush=True)
"""


def test_a_killed_writer_goes_on_where_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def cache() -> CandidateCache:
        return CandidateCache(store, META, 2000, 32, 16, 10)

    left = 200
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        with pytest.raises(StoreError, match=f"being written by process {writer.pid}"):
            cache().write(0, np.zeros((10, 32, 16)))
        writer.kill()
        writer.communicate()
        missing = cache().missing()
        assert len(missing) <= left - 19
        left = len(missing)
    rest = cache()
    for chunk in rest.missing():
        rest.write(chunk, np.full((10, 32, 16), chunk))
    rest.complete()
    expected = np.repeat(np.arange(200), 10)[:, None, None]
    np.testing.assert_array_equal(rest.load(), np.broadcast_to(expected, (2000, 32, 16)))
