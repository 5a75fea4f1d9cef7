"""Tensors survive the wire, and what is no tensor is refused with the field's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from common.rpc.codec import decode, encode, encode_result
from common.rpc.errors import InvalidFieldError, TooLargeError
from ldcq.v1 import tensor_pb2

DTYPES = (np.float32, np.float16, np.float64, np.int32, np.int64, np.uint8, np.bool_)
ARRAYS: st.SearchStrategy[NDArray[Any]] = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


@given(ARRAYS)
def test_every_array_comes_back_bit_for_bit(array: NDArray[Any]) -> None:
    message = tensor_pb2.Tensor.FromString(encode(array).SerializeToString())
    back = decode(message, field="x", shape=array.shape, dtype=array.dtype, finite=False)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(
    dtype=st.integers(-1, 9),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 4), max_size=10),
    data=st.binary(max_size=64),
    rank=st.integers(0, 4),
)
def test_no_message_does_anything_but_decode_or_be_refused(
    dtype: int, shape: list[int], data: bytes, rank: int
) -> None:
    message = tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        array = decode(message, field="states", shape=(None,) * rank, max_bytes=1 << 20)
    except InvalidFieldError as refusal:
        complaint = str(refusal)
    else:
        assert array.dtype == np.float32
        assert list(array.shape) == shape
        assert np.isfinite(array).all()
        return
    assert complaint.startswith("states: got ")


def test_memory_order_and_byte_order_do_not_matter() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for variant in (np.asfortranarray(array), array.astype(">f4"), array[:, ::-1][:, ::-1]):
        assert encode(variant) == encode(array)


def test_bytes_on_the_wire_are_little_endian_in_c_order() -> None:
    message = encode(np.array([[1, 2], [3, 4]], dtype=np.int32))
    assert message.data == b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"


@pytest.mark.parametrize("given_type", [np.float16, np.float64])
def test_other_precisions_become_float32_only_where_that_is_asked(given_type: type) -> None:
    message = encode(np.array([0.5, -2.0], dtype=given_type))
    assert decode(message, field="x", shape=(2,)).dtype == np.float32
    with pytest.raises(InvalidFieldError, match="expected int64"):
        decode(message, field="x", shape=(2,), dtype=np.int64)


def test_few_rows_of_too_many_bytes_are_refused() -> None:
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[2, 2**60])
    with pytest.raises(InvalidFieldError, match="expected at most 268435456"):
        decode(message, field="x", shape=(None, None))


def test_rows_are_all_dimensions_but_the_last() -> None:
    message = encode(np.zeros((2, 3, 4), np.float32))
    assert decode(message, field="x", shape=(None, None, 4), max_rows=6).shape == (2, 3, 4)
    with pytest.raises(
        TooLargeError, match=r"x: got shape \(2, 3, 4\), 6 rows; expected at most 5"
    ):
        decode(message, field="x", shape=(None, None, 4), max_rows=5)
    assert decode(message, field="x", shape=(None, None, 4), max_rows=None).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (encode(np.zeros((2, 4), np.float32)), r"shape \(2, 4\); expected shape \(\*, 3\)"),
        (encode(np.zeros(3, np.float32)), r"shape \(3,\); expected"),
        (encode(np.zeros((2, 3), np.int32)), "element type int32; expected float32"),
        (encode(np.array([[0, np.nan, 0]], np.float32)), r"nan at \(0, 1\); expected finite"),
        (encode(np.array([[0, 0, -np.inf]], np.float32)), r"-inf at \(0, 2\)"),
        (encode(np.array([[0, 0, 1e300]], np.float64)), "beyond single precision"),
        (
            tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[1, 3], data=b"\0" * 11),
            "11 bytes of data; expected 12",
        ),
        (
            tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[1, 3], data=b"\0" * 13),
            "13 bytes of data",
        ),
        (tensor_pb2.Tensor(shape=[1, 3], data=b"\0" * 12), "element type number 0"),
        (tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[-1, 3]), r"shape \(-1, 3\)"),
        (
            tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[2**62, 3]),
            "expected at most 262144 rows in one call",
        ),
        (tensor_pb2.Tensor(), "element type number 0"),
    ],
)
def test_a_wrong_tensor_is_refused_with_what_was_given_and_expected(
    message: tensor_pb2.Tensor, complaint: str
) -> None:
    with pytest.raises(InvalidFieldError, match=complaint):
        decode(message, field="states", shape=(None, 3))


def test_the_size_limit_counts_what_the_array_takes_after_conversion() -> None:
    message = encode(np.zeros(100, np.float16))
    assert decode(message, field="x", shape=(None,), max_bytes=400).nbytes == 400
    with pytest.raises(InvalidFieldError, match="at most 399"):
        decode(message, field="x", shape=(None,), max_bytes=399)


def test_truth_values_are_zero_or_one() -> None:
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_BOOL, shape=[3], data=b"\0\1\2")
    with pytest.raises(InvalidFieldError, match="other than 0 and 1"):
        decode(message, field="restart", shape=(3,), dtype=np.bool_)


def test_an_element_type_that_does_not_cross_the_wire_is_refused_at_the_sender() -> None:
    with pytest.raises(TypeError, match="complex128"):
        encode(np.zeros(2, np.complex128))


def test_a_result_that_is_not_finite_names_its_row() -> None:
    values = np.zeros((3, 2), np.float32)
    assert encode_result(values, "values", "states") == encode(values)
    values[1, 0], values[2, 1] = np.nan, np.inf
    with pytest.raises(InvalidFieldError, match="states: got a row 1 whose values are not finite"):
        encode_result(values, "values", "states")
