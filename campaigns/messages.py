"""Requests as nobody should send them: hypothesis strategies over the contracts' messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from ldcq.v1 import tensor_pb2

_ITEM_BYTES = {0: 4, 1: 4, 2: 2, 3: 8, 4: 4, 5: 8, 6: 1, 7: 1}
_WRITABLE_BYTES = 1 << 16
"""A tensor that says it has more comes without its data."""
_EXTREME = (-1, 0, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 99),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_VALUES = (0.0, 0.5, 1e10, 3e38, 1e-40, float("nan"), float("inf"), -float("inf"))


@dataclass(frozen=True)
class Vocabulary:
    """What makes some of the requests nearly right, so that they get past the first check.

    Attributes:
        extents: Extents of tensors: dimensions of the models, and awkward numbers.
        shapes: Of tensors by the field's name; None: any number of rows.
        words: Of strings by the field's name.
        numbers: Of integers by the field's name.
        tokens: Plan tokens that an actor has made.
    """

    extents: Sequence[int]
    shapes: Mapping[str, Sequence[tuple[int | None, ...]]]
    words: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Sequence[int]]
    tokens: list[bytes] = field(default_factory=list)


def requests(kind: type[Message], known: Vocabulary) -> st.SearchStrategy[bytes]:
    """Serialised messages of a kind: any fields with any values, or the bytes of such a message
    changed, cut or repeated.
    """
    whole = messages(kind, known).map(lambda message: message.SerializeToString())
    return st.one_of(whole, whole, whole, _damaged(whole), st.binary(max_size=200))


@st.composite
def messages(draw: Callable[[Any], Any], kind: type[Message], known: Vocabulary) -> Message:
    """Messages of a kind: most of its fields are set."""
    message, rows = kind(), draw(st.sampled_from((1, 1, 2, 3)))
    for described in kind.DESCRIPTOR.fields:
        if draw(st.integers(0, 7)) == 0:
            continue
        if described.message_type is tensor_pb2.Tensor.DESCRIPTOR:
            getattr(message, described.name).CopyFrom(draw(tensors(described.name, rows, known)))
        elif described.message_type is not None:
            part = described.message_type._concrete_class
            if draw(st.booleans()):
                getattr(message, described.name).CopyFrom(draw(messages(part, known)))
        elif described.is_repeated:
            values = draw(st.lists(_scalars(described, known), max_size=3))
            getattr(message, described.name).extend(values)
        else:
            setattr(message, described.name, draw(_scalars(described, known)))
    return message


@st.composite
def tensors(
    draw: Callable[[Any], Any], name: str, rows: int, known: Vocabulary
) -> tensor_pb2.Tensor:
    """Tensors: of a right shape and type, or of any; with their data, or others."""
    if draw(st.integers(0, 3)):
        shape = draw(st.sampled_from(known.shapes.get(name, [(None,)])))
        extents = [rows if extent is None else extent for extent in shape]
    else:
        extents = draw(st.lists(st.sampled_from(known.extents), max_size=9))
    dtype = draw(st.sampled_from((1, 1, 1, 1, 0, 2, 3, 4, 5, 6, 7, 99)))
    count = int(np.prod([float(abs(extent)) for extent in extents]) if extents else 1)
    size = count * _ITEM_BYTES.get(dtype, 4) if count < _WRITABLE_BYTES else 0
    data = draw(_data(size, dtype))
    return tensor_pb2.Tensor(dtype=dtype, shape=extents, data=data)  # type: ignore[arg-type]


def _data(size: int, dtype: int) -> st.SearchStrategy[bytes]:
    kinds = {1: "<f4", 2: "<f2", 3: "<f8"}

    def of(value: float) -> bytes:
        if dtype not in kinds:
            return bytes(size)
        with np.errstate(over="ignore"):
            array = np.full(size // _ITEM_BYTES[dtype], value).astype(kinds[dtype])
        return array.tobytes()

    right = st.sampled_from((0.5, 0.5, 0.5, *_VALUES)).map(of)
    return st.one_of(right, right, right, st.binary(max_size=64))


def _scalars(described: Any, known: Vocabulary) -> st.SearchStrategy[Any]:
    if described.cpp_type in _INTEGERS:
        low, high = _INTEGERS[described.cpp_type]
        near = [*known.numbers.get(described.name, (1, 2)), *_EXTREME]
        possible = [number for number in near if low <= number <= high]
        usual = st.sampled_from(known.numbers.get(described.name, (1, 2)))
        return st.one_of(usual, usual, st.sampled_from(possible), st.integers(low, high))
    if described.cpp_type in _FLOATS:
        return st.one_of(st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from(_VALUES))
    if described.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if described.type == FieldDescriptor.TYPE_BYTES:
        made = st.sampled_from(known.tokens or [b""])
        return st.one_of(made, made, _damaged(made), st.binary(max_size=100))
    usual = st.sampled_from(known.words.get(described.name, ("",)))
    strange = st.sampled_from(("../../x", "a" * 3000, "\x00", "\u202e%s%n{}"))
    return st.one_of(usual, usual, strange, st.text(max_size=20))


@st.composite
def _damaged(draw: Callable[[Any], Any], whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of `whole` with some changed, a part missing, or a part twice."""
    content = bytearray(draw(whole))
    if not content:
        return b""
    place, value = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, 255))
    match draw(st.sampled_from(("change", "cut", "repeat", "insert"))):
        case "change":
            content[place] = value
        case "cut":
            del content[place:]
        case "repeat":
            content += content[place:]
        case _:
            content.insert(place, value)
    return bytes(content)


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_LINES = (
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.0\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
    b"GET /metrics?name[]=x HTTP/1.1\r\nAccept-Encoding: gzip\r\n",
    b"BREW / HTTP/9.9\r\n\r\n",
    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)


@st.composite
def _frames(draw: Callable[[Any], Any]) -> bytes:
    """An HTTP/2 connection that begins well."""
    frames = []
    for _ in range(draw(st.integers(0, 4))):
        payload = draw(st.binary(max_size=40))
        size = draw(st.sampled_from((len(payload), len(payload), 0, 2**24 - 1)))
        kind, flags = draw(st.integers(0, 12)), draw(st.integers(0, 255))
        stream = draw(st.sampled_from((0, 1, 2, 2**31 - 1)))
        head = size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        frames.append(head + payload)
    return _PREFACE + _SETTINGS + b"".join(frames)


raw: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=300), _frames(), _damaged(_frames()), st.sampled_from(_LINES),
    _damaged(st.sampled_from(_LINES)),
)
"""What a socket gets instead of a protocol."""
