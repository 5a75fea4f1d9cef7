"""A file of rows against the same array in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.store import RowFile, StoreError, fits_in_memory, spans

VALUES = np.random.default_rng(0).normal(size=(50, 3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> RowFile:
    file = RowFile(tmp_path_factory.mktemp("rows"), np.float32, (3, 2))
    for start in range(0, len(VALUES), 20):
        file.append(VALUES[start : start + 20])
    return file


@given(st.lists(st.integers(0, 46), max_size=8), st.integers(1, 4), st.integers(-60, 60))
def test_it_is_indexed_like_an_array(
    rows: RowFile, first: list[int], count: int, start: int
) -> None:
    indices = np.array(first, np.int64)
    assert rows.shape == VALUES.shape
    np.testing.assert_array_equal(rows[indices], VALUES[indices])
    np.testing.assert_array_equal(rows[indices[:, None]], VALUES[indices[:, None]])
    np.testing.assert_array_equal(spans(rows, indices, count), spans(VALUES, indices, count))
    np.testing.assert_array_equal(rows[start : start + count], VALUES[start : start + count])
    assert rows[indices].dtype == np.float32


def test_rows_out_of_range_and_misshapen_ones_are_refused(rows: RowFile) -> None:
    for wrong in (np.array([50]), np.array([-1])):
        with pytest.raises(IndexError, match="expected 0 to 50"):
            rows[wrong]
    with pytest.raises(IndexError, match="rows 48 to 51: expected 0 to 50"):
        rows.spans(np.array([48]), 3)
    with pytest.raises(ValueError, match=r"got shape \(1, 2\)"):
        rows.append(np.zeros((1, 2)))


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "new", np.int64)
    file.append(np.arange(3))
    assert file[:].tolist() == [0, 1, 2]
    assert not [*(tmp_path / "new").iterdir()]


def test_a_folder_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"rows kept on disk in .*/file: .*expected room there"):
        RowFile(tmp_path / "file", np.int64)


def test_what_fits_is_what_is_allowed() -> None:
    assert fits_in_memory(1 << 20, 1)
    assert not fits_in_memory((1 << 20) + 1, 1)
    assert fits_in_memory(1 << 20, None)
    assert not fits_in_memory(1 << 60, None)
