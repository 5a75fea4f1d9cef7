"""What S3 has no kernel and no rename for: leases, whole folders, and who may not."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.exceptions import NotSupportedError, PreconditionError

from common.store import CandidateCache, LatentWriter, Meta, Store, StoreError, lease, local_root
from common.store.bucket import BucketPlace
from common.store.lease import Lease
from tests.common.store.conftest import NewUrl

META = Meta(kind="candidates")


@pytest.fixture
def store(new_s3: NewUrl) -> Store:
    return Store(new_s3())


@pytest.fixture
def place(store: Store) -> BucketPlace:
    assert isinstance(store.place, BucketPlace)
    return store.place


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds a lease is renewed in, and is given up after."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "DEAD_SECONDS", 1.0)


@contextmanager
def held(place: BucketPlace, key: str = "latents/.x.lock") -> Iterator[Lease]:
    lock = place.lock(key, "latents x")
    try:
        yield lock
    finally:
        lock.release()


def silence(lock: Lease) -> None:
    """What is left of a lease when its holder is killed."""
    lock._released.set()
    lock._thread.join()


@pytest.mark.usefixtures("_short")
def test_one_process_at_a_time_and_the_next_after_it(place: BucketPlace) -> None:
    with held(place) as lock:
        with pytest.raises(
            StoreError, match=r"latents x is being written by process \d+ on .*x.lock"
        ):
            place.lock("latents/.x.lock", "latents x")
        with held(place, "latents/.other.lock"):
            pass
        lock.check()
    with held(place):
        pass
    assert place.keys("latents") == set()


@pytest.mark.usefixtures("_short")
def test_a_dead_holder_is_followed_and_a_late_one_told(
    place: BucketPlace, caplog: pytest.LogCaptureFixture
) -> None:
    dead = place.lock("latents/.x.lock", "latents x")
    silence(dead)
    with held(place) as lock, caplog.at_level(logging.WARNING):
        lock.check()
        assert not dead._prolong()  # it was asleep, not dead
        dead._lost = True
        with pytest.raises(StoreError, match="another process took the writing over"):
            dead.check()
        assert lock._prolong()


@pytest.mark.usefixtures("_short")
def test_of_two_who_follow_a_dead_holder_one_does(place: BucketPlace) -> None:
    silence(place.lock("latents/.x.lock", "latents x"))
    outcomes: list[Lease | None] = []

    def follow() -> None:
        try:
            outcomes.append(place.lock("latents/.x.lock", "latents x"))
        except StoreError:
            outcomes.append(None)

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    held_by = [lock for lock in outcomes if lock is not None]
    assert (len(outcomes), len(held_by)) == (2, 1)
    held_by[0].release()


@pytest.mark.usefixtures("_short")
def test_an_answer_that_is_lost_loses_no_lease(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library sends a PUT again when its answer is lost: the second then fails."""
    put = obstore.put

    def lost(*arguments: Any, **options: Any) -> Any:
        put(*arguments, **options)
        return put(*arguments, **options)

    monkeypatch.setattr(obstore, "put", lost)
    with held(place) as lock:
        assert lock._prolong()
        monkeypatch.undo()
        assert lock._prolong()


def test_without_conditional_writes_one_is_warned(
    place: BucketPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise NotSupportedError

    monkeypatch.setattr(obstore, "put", refused)
    with held(place) as lock:
        lock.check()
    assert "nothing keeps a second writer away" in caplog.text


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


@pytest.mark.usefixtures("_short")
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
        with LatentWriter(store, Meta(kind="latents"), 5, {"reward": (np.float32, ())}) as writer:
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
