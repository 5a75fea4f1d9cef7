"""Room for arrays: in memory while it lasts, then on disk, where nothing is left behind."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from common.store import Room, StoreError
from common.store.rows import CGROUP_LIMIT

MIB = 1 << 20


def test_an_array_on_disk_is_an_array(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 3, 2)).astype(np.float32)
    mapped = Room(tmp_path, 0)(values.shape, values.dtype)
    assert isinstance(mapped, np.memmap)
    for start in range(0, 50, 20):
        mapped[start : start + 20] = values[start : start + 20]
    np.testing.assert_array_equal(mapped, values)
    rows = mapped[np.array([[3, 49], [0, 3]])]
    assert not isinstance(rows, np.memmap), "what is taken is in memory"
    np.testing.assert_array_equal(rows, values[[[3, 49], [0, 3]]])


def test_arrays_share_what_is_allowed_in_memory(tmp_path: Path) -> None:
    room = Room(tmp_path, 3)
    kinds = [isinstance(room((size,), np.uint8), np.memmap) for size in (2 * MIB, 2 * MIB, MIB, 1)]
    assert kinds == [False, True, False, True]
    assert not isinstance(Room(tmp_path, 3)((3 * MIB,), np.uint8), np.memmap)
    assert not isinstance(Room(tmp_path, None)((MIB,), np.uint8), np.memmap)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.store.rows.CGROUP_LIMIT", tmp_path / "limit")
        assert Room(tmp_path, None)._left == machine // 4
        (tmp_path / "limit").write_text("8000\n")
        assert Room(tmp_path, None)._left == 2000
    assert CGROUP_LIMIT.name == "memory.max"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    def free() -> int:
        disk = os.statvfs(tmp_path)
        return disk.f_bavail * disk.f_frsize

    folder, size = tmp_path / "new", 256 * MIB
    mapped = Room(folder, 0)((size,), np.uint8)
    taken = free()
    assert not [*folder.iterdir()]
    del mapped
    gc.collect()
    assert free() - taken > size / 2


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"rows kept on disk in .*/file: .*expected room there"):
        Room(tmp_path / "file", 0)((1,), np.int64)


def test_a_full_disk_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=r"rows kept on disk in .* expected room there"):
        Room(tmp_path, 0)((1 << 60,), np.uint8)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left on device; expected room"):
        Room(tmp_path, 0)((1,), np.uint8)
