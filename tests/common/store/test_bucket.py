"""What S3 has no kernel and no rename for: two writers, whole folders, and who may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.exceptions import PreconditionError

from common.store import CandidateCache, LatentWriter, Meta, Store, StoreError, local_root
from common.store.latents import is_whole
from tests.common.store.conftest import NewUrl

META = Meta(kind="candidates")


@pytest.fixture
def store(new_s3: NewUrl) -> Store:
    return Store(new_s3())


def test_on_one_machine_the_second_writer_is_refused(store: Store) -> None:
    lock = store.place.lock("latents/.x.lock", "latents x")
    with pytest.raises(StoreError, match=r"latents x is being written by process \d+ on .*x.lock"):
        store.place.lock("latents/.x.lock", "latents x")
    lock.release()
    store.place.lock("latents/.x.lock", "latents x").release()
    assert store.place.keys("latents") == set()


def new_writer(store: Store) -> LatentWriter:
    return LatentWriter(store, Meta(kind="latents"), 5, {"reward": (np.float32, ())})


@pytest.mark.parametrize("during", ["writing", "listing", "copying"])
def test_two_machines_that_write_the_same_latents_waste_work_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """One publishes, and clears what was staged, at the worst moments of the other."""
    place, reward = store.place, np.arange(5, dtype=np.float32)
    with new_writer(store) as first:
        monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "another machine"))
        second = new_writer(store)
        first.write(0, reward=reward)
        second.write(0, reward=reward)
        keys, copy = place.keys, obstore.copy

        def publish_once() -> None:
            monkeypatch.setattr(place, "keys", keys)
            monkeypatch.setattr(obstore, "copy", copy)
            first.publish()

        def listing(folder: str) -> set[str]:
            publish_once()
            return keys(folder)

        def copying(*arguments: Any) -> None:
            publish_once()
            copy(*arguments)

        match during:
            case "writing":
                publish_once()
            case "listing":
                monkeypatch.setattr(place, "keys", listing)
            case "copying":
                monkeypatch.setattr(obstore, "copy", copying)
        assert second.publish() == first.version
        second.close()
    assert is_whole(place, store.key("latents", first.version))
    assert {name.split("/")[0] for name in place.keys("latents")} == {"CURRENT", first.version}


WRITER = """
import sys
import numpy as np
from common.store import CandidateCache, Meta, Store
cache = CandidateCache(Store(sys.argv[1]), Meta(kind="candidates"), 100, 2, 2, 10)
for chunk in cache.missing():
    cache.write(chunk, np.full((10, 2, 2), chunk))
    print(chunk, flush=True)
    if chunk == 3:
        sys.stdin.readline()
"""


def test_a_killed_writer_is_followed_where_it_was(store: Store) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, store.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert [writer.stdout.readline() for _ in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
    writer.kill()
    writer.communicate()
    cache = CandidateCache(store, META, 100, 2, 2, 10)
    assert cache.missing() == [4, 5, 6, 7, 8, 9]
    assert store.versions("candidates") == []
    for chunk in cache.missing():
        cache.write(chunk, np.full((10, 2, 2), chunk))
    cache.complete()
    assert store.versions("candidates") == [cache.version]
    np.testing.assert_array_equal(cache.load()[:, 0, 0], np.repeat(np.arange(10), 10))


@pytest.mark.parametrize("after", range(3))
def test_an_artifact_is_seen_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The writer dies after each of its requests in turn."""
    meta, tensors = Meta(kind="vae"), {"w": np.arange(3)}
    writes: list[str] = []
    write = store.place.write

    def dying(key: str, data: bytes) -> None:
        if len(writes) == after:
            raise StoreError("killed")
        writes.append(key)
        write(key, data)

    monkeypatch.setattr(store.place, "write", dying)
    with pytest.raises(StoreError, match="killed"):
        store.publish(meta, tensors, "")
    monkeypatch.undo()
    assert store.versions("vae") == []
    assert store.find("vae", {}) is None
    assert store.current("vae") is None
    version = store.publish(meta, tensors, "")
    assert store.load("vae", version).meta == meta


def test_latents_are_seen_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = obstore.copy, list[str]()

    def dying(objects: Any, source: str, target: str) -> None:
        if len(copied) == 2:
            raise PreconditionError("killed")
        copied.append(target)
        copy(objects, source, target)

    def write(value: float) -> str:
        with new_writer(store) as writer:
            writer.write(0, reward=np.full(5, value))
            return writer.publish()

    monkeypatch.setattr(obstore, "copy", dying)
    with pytest.raises(StoreError, match="killed"):
        write(1.0)
    monkeypatch.setattr(obstore, "copy", copy)
    assert len(copied) == 2
    assert store.versions("latents") == []
    version = write(2.0)
    assert store.versions("latents") == [version]


def test_who_may_not_is_told(new_s3: NewUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_s3()
    with pytest.raises(StoreError, match=r"no-such-bucket: cannot read .*AWS_ENDPOINT"):
        Store("s3://no-such-bucket")
    monkeypatch.setitem(sys.modules, "common.store.bucket", None)
    with pytest.raises(StoreError, match=r"pip install 'ldcq\[s3\]'"):
        Store(url)


def test_what_is_not_shared_has_a_folder_on_this_machine(
    new_s3: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_s3()
    store = Store(url)
    assert store.root == local_root(url) == tmp_path / "scratch" / url.removeprefix("s3://")
    assert store.root.is_dir()
    with pytest.raises(StoreError, match="expected a store in a folder"):
        store.folder("vae")
    (tmp_path / "file").touch()
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"not writable.*LDCQ_SCRATCH"):
        Store(url)
