"""Arrays to `Tensor` messages and back; what a peer sent is checked before any allocation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.rpc.errors import InvalidFieldError, TooLargeError
from common.rpc.options import MAX_MESSAGE_BYTES
from ldcq.latent_prior import MAX_ROWS
from ldcq.v1 import tensor_pb2

MAX_TENSOR_BYTES = 2 * MAX_MESSAGE_BYTES
"""A whole message in half precision, widened."""
MAX_RANK = 8

_WIRE_TYPES: dict[tensor_pb2.Dtype.ValueType, np.dtype[Any]] = {
    tensor_pb2.DTYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DTYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DTYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DTYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DTYPE_INT64: np.dtype("<i8"),
    tensor_pb2.DTYPE_UINT8: np.dtype("u1"),
    tensor_pb2.DTYPE_BOOL: np.dtype("?"),
}
_WIRE_NUMBERS = {dtype: number for number, dtype in _WIRE_TYPES.items()}


def encode(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """Packs an array of any shape, memory order and byte order.

    Raises:
        TypeError: The element type does not cross the wire (complex, object, int16, ...).
    """
    wire_type = array.dtype.newbyteorder("<")
    number = _WIRE_NUMBERS.get(wire_type)
    if number is None:
        known = ", ".join(str(dtype) for dtype in _WIRE_TYPES.values())
        raise TypeError(f"array: got element type {array.dtype}, expected one of {known}")
    data = array.astype(wire_type, order="C", copy=False).tobytes(order="C")
    return tensor_pb2.Tensor(dtype=number, shape=array.shape, data=data)


def encode_result(array: NDArray[Any], name: str, field: str) -> tensor_pb2.Tensor:
    """Packs what was computed row by row from a field of a request.

    Args:
        array: The result, (B, ...).
        name: What it is, for the message.
        field: Whose rows it was computed from.

    Raises:
        InvalidFieldError: A row is not finite: what was given is finite, but overflows on the way.
    """
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        raise not_finite(field, int(finite.argmin()), name)
    return encode(array)


def not_finite(field: str, row: int, name: str) -> InvalidFieldError:
    """The error of a row of a field, finite itself, whose result `name` is not."""
    return InvalidFieldError(
        field, f"a row {row} whose {name} are not finite", "numbers like those of the data"
    )


def decode(
    tensor: tensor_pb2.Tensor,
    *,
    field: str,
    shape: tuple[int | None, ...],
    dtype: DTypeLike = np.float32,
    finite: bool = True,
    max_bytes: int = MAX_TENSOR_BYTES,
    max_rows: int | None = MAX_ROWS,
) -> NDArray[Any]:
    """Unpacks a tensor that must have the given shape and element type.

    Args:
        tensor: What a peer sent.
        field: Its name in the request, for error messages.
        shape: Expected extents; None where any extent will do, 0 included.
        dtype: Expected element type; where it is float32, half and double precision are converted.
        finite: Refuse NaN and infinity.
        max_bytes: Most bytes the array may take in memory.
        max_rows: Most rows, each of the last dimension alone: (N, n, Z) has N x n. It is what a
            network is evaluated on, so it bounds the memory and the work of a call. None: any.

    Returns:
        The array in native byte order; a read-only view of the message where nothing was converted.

    Raises:
        InvalidFieldError: The tensor is anything else; TooLargeError where it has more rows.
    """
    wanted = np.dtype(dtype)
    given = _element_type(tensor, field, wanted)
    extents = _extents(tensor, field, shape)
    count, rows = math.prod(extents), math.prod(extents[:-1])
    if max_rows is not None and rows > max_rows:
        raise TooLargeError(field, f"shape {extents}, {rows} rows", max_rows)
    if count * max(given.itemsize, wanted.itemsize) > max_bytes:
        size = count * max(given.itemsize, wanted.itemsize)
        raise InvalidFieldError(field, f"shape {extents} of {size} bytes", f"at most {max_bytes}")
    if len(tensor.data) != count * given.itemsize:
        expected = f"{count * given.itemsize} for shape {extents} of {given.name}"
        raise InvalidFieldError(field, f"{len(tensor.data)} bytes of data", expected)
    if given == np.dtype("?") and tensor.data.strip(b"\x00\x01"):
        raise InvalidFieldError(field, "a byte other than 0 and 1", "truth values")
    array = np.frombuffer(tensor.data, dtype=given).reshape(extents)
    return _converted(array, field, wanted, finite)


def _element_type(tensor: tensor_pb2.Tensor, field: str, wanted: np.dtype[Any]) -> np.dtype[Any]:
    given = _WIRE_TYPES.get(tensor.dtype)
    if given is None:
        raise InvalidFieldError(field, f"element type number {tensor.dtype}", wanted.name)
    convertible = wanted == np.float32 and given.kind == "f"
    if given != wanted.newbyteorder("<") and not convertible:
        raise InvalidFieldError(field, f"element type {given.name}", wanted.name)
    return given


def _extents(
    tensor: tensor_pb2.Tensor, field: str, shape: tuple[int | None, ...]
) -> tuple[int, ...]:
    if len(tensor.shape) > MAX_RANK:
        raise InvalidFieldError(field, f"{len(tensor.shape)} dimensions", describe_shape(shape))
    extents = tuple(tensor.shape)
    fits = len(extents) == len(shape) and all(
        have >= 0 and want in (None, have) for have, want in zip(extents, shape, strict=True)
    )
    if not fits:
        raise InvalidFieldError(field, f"shape {extents}", f"shape {describe_shape(shape)}")
    return extents


def _converted(
    array: NDArray[Any], field: str, wanted: np.dtype[Any], finite: bool
) -> NDArray[Any]:
    try:
        with np.errstate(over="raise"):
            result = array.astype(wanted, copy=False)
    except FloatingPointError as error:
        raise InvalidFieldError(field, "a value beyond single precision", wanted.name) from error
    if finite and result.dtype.kind == "f" and not np.isfinite(result).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise InvalidFieldError(field, f"{result[position]} at {position}", "finite numbers")
    return result


def describe_shape(shape: tuple[int | None, ...]) -> str:
    """A shape for people, `(*, 4)` for any number of rows of 4."""
    inner = ", ".join("*" if extent is None else str(extent) for extent in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
