"""Training state survives exactly, and a damaged file is never used."""

from __future__ import annotations

import io
import logging
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.training import CheckpointError, Checkpoints

TENSORS = [
    torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
    torch.tensor(3.5, dtype=torch.float64),
    torch.tensor([1.0, math.nan], dtype=torch.bfloat16),
    torch.tensor([1.5], dtype=torch.float16),
    torch.tensor([True, False]),
    torch.tensor([-(2**62)], dtype=torch.int64),
    torch.get_rng_state(),
    torch.zeros(0, 4),
]
ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3).T,
    np.array(2.5),
    np.array([2**64 - 1], np.uint64),
    np.array([1, 2], np.uint32),
    np.array([True]),
    np.zeros((0, 2), np.int16),
]
SCALARS = [None, True, False, 0, -1, 2**130, 0.1, 5e-324, 1.7976931348623157e308, -0.0, "", "µ\0"]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, "vae", {"seed": 1}, keep=2)


def round_trip(checkpoints: Checkpoints, state: dict[str, Any]) -> dict[str, Any]:
    checkpoints.save(1, state)
    found = checkpoints.latest()
    assert found is not None
    assert found[0] == 1
    return found[1]


def test_tensors_and_arrays_survive_bit_for_bit(checkpoints: Checkpoints) -> None:
    found = round_trip(checkpoints, {"tensors": TENSORS, "arrays": ARRAYS})
    for expected, tensor in zip(TENSORS, found["tensors"], strict=True):
        assert (tensor.dtype, tensor.shape) == (expected.dtype, expected.shape)
        assert torch.equal(
            tensor.contiguous().reshape(-1).view(torch.uint8),
            expected.contiguous().reshape(-1).view(torch.uint8),
        )
    for array, restored in zip(ARRAYS, found["arrays"], strict=True):
        assert (restored.dtype, restored.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(restored, array)
        assert restored.flags.writeable


def test_scalars_keys_and_nesting_survive(checkpoints: Checkpoints) -> None:
    state: dict[str, Any] = {
        "scalars": SCALARS,
        "keys": {0: "int", "0": "str", -5: {}, "a.b": [[], [{}]]},
        "infinite": [math.inf, -math.inf],
        "numpy": [np.float32(0.1), np.int64(3), np.bool_(True)],
        "dict": {"dict": {"torch": "x"}, "list": [1]},
    }
    found = round_trip(checkpoints, state)
    assert found == state
    for left, right in zip(SCALARS, found["scalars"], strict=True):
        assert type(left) is type(right)
        assert repr(left) == repr(right)
    for left, right in zip(state["numpy"], found["numpy"], strict=True):
        assert type(left) is type(right)
    assert round_trip(checkpoints, {"t": (1, (2,)), "s": {1}}) == {"t": (1, (2,)), "s": {1}}
    assert math.isnan(round_trip(checkpoints, {"nan": math.nan})["nan"])


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_numpy_generators_go_on_where_they_were(checkpoints: Checkpoints, kind: Any) -> None:
    generator = np.random.Generator(kind(4))
    generator.normal(size=7)
    state = round_trip(checkpoints, {"generator": generator.bit_generator.state})["generator"]
    expected = generator.normal(size=100)
    other = np.random.Generator(kind(5))
    other.bit_generator.state = state
    np.testing.assert_array_equal(other.normal(size=100), expected)


def test_a_saved_state_shares_nothing_with_the_live_one(checkpoints: Checkpoints) -> None:
    weight = torch.ones(3)
    found = round_trip(checkpoints, {"a": weight, "tied": weight, "part": weight[:2]})
    assert torch.equal(found["a"], found["tied"])
    assert found["part"].shape == (2,)


def test_what_cannot_be_stored_is_named(checkpoints: Checkpoints) -> None:
    for value, name in (
        (Path("x"), "pathlib.PosixPath"),
        (math.sin, "math.sin"),
        (np.array([{}]), "numpy.dtypes.ObjectDType"),
    ):
        with pytest.raises(TypeError, match=rf"step 1: .*{name}.*; expected tensors, arrays"):
            checkpoints.save(1, {"a": [0, {"x": value}]})
    with pytest.raises(TypeError, match="generator"):
        checkpoints.save(1, {"a": (i for i in range(3))})
    assert checkpoints.latest() is None


def test_a_file_that_would_run_code_is_not_run(
    checkpoints: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    checkpoints.save(1, {"x": 1})
    file = io.BytesIO()
    torch.save({"x": Planted()}, file)
    content = file.getvalue()
    planted = checkpoints.folder / "2.pt"
    planted.write_bytes(content + zlib.crc32(content).to_bytes(4))
    with caplog.at_level(logging.WARNING):
        assert checkpoints.latest() == (1, {"x": 1})
    assert str(planted) in caplog.text
    assert not (tmp_path / "ran").exists()


def test_the_last_ones_are_kept_in_the_order_of_steps(checkpoints: Checkpoints) -> None:
    for step in (8, 9, 10, 100):
        checkpoints.save(step, {"step": step})
    assert checkpoints.latest() == (100, {"step": 100})
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["10.pt", "100.pt"]


def test_another_spec_has_other_checkpoints(tmp_path: Path, checkpoints: Checkpoints) -> None:
    checkpoints.save(5, {"x": 1})
    assert Checkpoints(tmp_path, "vae", {"seed": 2}, 2).latest() is None
    assert Checkpoints(tmp_path, "prior", {"seed": 1}, 2).latest() is None
    assert Checkpoints(tmp_path, "vae", {"seed": 1}, 2).latest() == (5, {"x": 1})


@pytest.mark.parametrize("damage", ["half", "header", "empty", "last", "flip"])
def test_a_damaged_file_is_reported_and_the_one_before_used(
    checkpoints: Checkpoints, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoints.save(step, {"weight": torch.full((1000,), float(step))})
    newest = checkpoints.folder / "2.pt"
    content = bytearray(newest.read_bytes())
    match damage:
        case "half":
            newest.write_bytes(content[: len(content) // 2])
        case "header":
            newest.write_bytes(content[:20])
        case "empty":
            newest.write_bytes(b"")
        case "last":
            newest.write_bytes(content[:-1])
        case "flip":
            content[-1] ^= 1
            newest.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = checkpoints.latest()
    assert found is not None
    assert found[0] == 1
    assert torch.equal(found[1]["weight"], torch.ones(1000))
    assert str(newest) in caplog.text
    assert "using the one before" in caplog.text
    # The damaged one is out of the way: it cannot push a good one out of the last two.
    checkpoints.save(2, {"weight": torch.zeros(1)})
    names = {path.name for path in checkpoints.folder.glob("*.pt")}
    assert names == {"1.pt", "2.pt"}


def test_a_byte_flipped_anywhere_is_found(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, {"number": 0.1, "array": np.arange(3), "weight": torch.ones(2)})
    path = checkpoints.folder / "1.pt"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert checkpoints.latest() is None


def test_leftovers_of_a_killed_writer_are_ignored(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, {"x": 1})
    (checkpoints.folder / ".2.pt.4711.abc").write_bytes(b"half")
    assert checkpoints.latest() == (1, {"x": 1})


def test_a_disk_that_refuses_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot save checkpoint"):
        Checkpoints(tmp_path / "file", "vae", {}, 2).save(1, {"x": 1})
