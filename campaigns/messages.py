"""Requests as nobody should send them: hypothesis strategies over the contracts' messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from common.rpc.codec import encode
from ldcq.v1 import tensor_pb2

_ITEM_BYTES = {0: 4, 1: 4, 2: 2, 3: 8, 4: 4, 5: 8, 6: 1, 7: 1}
_FLOAT_TYPES = {1: "<f4", 2: "<f2", 3: "<f8"}
_WRITABLE = 1 << 16
"""Elements; a tensor that says it has more comes without them."""
_EXTREME = (-1, 0, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 99),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_STRANGE = ("", "../../x", "a" * 3000, "\x00", "\u202e%s%n{}")
_VALUES = (0.0, 0.5, 1e10, 3e38, 1e-40, float("nan"), float("inf"), -float("inf"))

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Vocabulary:
    """What requests that are in order are made of.

    Attributes:
        extents: Extents of tensors: dimensions of the models, and awkward numbers.
        shapes: Of tensors, by the field's name or, before that, `Message.field`; None: the rows.
        words: Of strings by the field's name.
        numbers: Of integers and floats by the field's name.
        tokens: Plan tokens that an actor has made.
    """

    extents: Sequence[int]
    shapes: Mapping[str, tuple[int | None, ...]]
    words: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Sequence[float]]
    tokens: list[bytes] = field(default_factory=list)


@st.composite
def requests(draw: Draw, kind: type[Message], known: Vocabulary) -> bytes:
    """Serialised messages of a kind; of some the bytes are changed, and some are no message."""
    way = draw(st.integers(0, 9))
    if way == 0:
        return bytes(draw(st.binary(max_size=200)))
    content = draw(messages(kind, known)).SerializeToString()
    return bytes(draw(_damaged(st.just(content))) if way == 1 else content)


@st.composite
def messages(draw: Draw, kind: type[Message], known: Vocabulary) -> Message:
    """Messages of a kind that are in order but for at most two of their fields."""
    message, rows = kind(), draw(st.sampled_from((1, 2, 3)))
    fields: list[Any] = list(kind.DESCRIPTOR.fields)
    count = draw(st.integers(0, 2)) if fields else 0
    broken = {draw(st.sampled_from(fields)).name for _ in range(count)}
    for described in fields:
        wrong = described.name in broken
        if described.message_type is tensor_pb2.Tensor.DESCRIPTOR:
            shape = known.shapes.get(f"{kind.DESCRIPTOR.name}.{described.name}")
            shape = shape or known.shapes.get(described.name)
            if wrong:
                tensor = draw(_wrong_tensors(shape or (None,), rows, known))
            elif shape is None or (described.containing_oneof and draw(st.booleans())):
                continue
            else:
                tensor = draw(_tensors(described.name, shape, rows))
            getattr(message, described.name).CopyFrom(tensor)
        elif described.message_type is not None:
            part = draw(messages(described.message_type._concrete_class, known))
            getattr(message, described.name).CopyFrom(part)
        elif described.is_repeated:
            values = draw(st.lists(_scalars(described, known, wrong), max_size=3))
            getattr(message, described.name).extend(values)
        elif wrong or not described.containing_oneof or draw(st.booleans()):
            value = draw(_scalars(described, known, wrong))
            if value is not None:
                setattr(message, described.name, value)
    return message


@st.composite
def _tensors(draw: Draw, name: str, shape: tuple[int | None, ...], rows: int) -> tensor_pb2.Tensor:
    extents = [rows if extent is None else extent for extent in shape]
    values = np.full(extents, draw(st.sampled_from((0.0, 0.5, -1.0))), np.float32)
    return encode(values > 0 if name == "restart" else values)


@st.composite
def _wrong_tensors(
    draw: Draw, shape: tuple[int | None, ...], rows: int, known: Vocabulary
) -> tensor_pb2.Tensor:
    """Of another shape or type, with other data, or values at the edge of what is a number."""
    extents = [rows if extent is None else extent for extent in shape]
    if draw(st.booleans()):
        extents = draw(st.lists(st.sampled_from(known.extents), max_size=9))
    dtype = draw(st.sampled_from((1, 1, 1, 0, 2, 3, 4, 5, 6, 7, 99)))
    count = math.prod(abs(extent) for extent in extents)
    size = count * _ITEM_BYTES.get(dtype, 4) if count < _WRITABLE else 0
    if dtype in _FLOAT_TYPES and draw(st.booleans()):
        with np.errstate(over="ignore"):
            array = np.full(size // _ITEM_BYTES[dtype], draw(st.sampled_from(_VALUES)))
            data = array.astype(_FLOAT_TYPES[dtype]).tobytes()
    else:
        data = draw(st.sampled_from((bytes(size), bytes(size + 1), b"", b"\xff" * size)))
    return tensor_pb2.Tensor(dtype=dtype, shape=extents, data=data)


def _scalars(described: Any, known: Vocabulary, wrong: bool) -> st.SearchStrategy[Any]:
    """Values of a field that is no message; None where it is better left out."""
    name = described.name
    if described.cpp_type in _INTEGERS:
        low, high = _INTEGERS[described.cpp_type]
        edges = [number for number in _EXTREME if low <= number <= high]
        usual = st.sampled_from(known.numbers.get(name, (1, 2)))
        return st.one_of(st.sampled_from(edges), st.integers(low, high)) if wrong else usual
    if described.cpp_type in _FLOATS:
        return st.sampled_from(_VALUES if wrong else known.numbers.get(name, (0.5, 1.0)))
    if described.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if described.type == FieldDescriptor.TYPE_BYTES:
        made = st.sampled_from(known.tokens) if known.tokens else st.none()
        strange = st.one_of(_damaged(st.sampled_from(known.tokens or [b""])), st.binary())
        return strange if wrong else made
    if wrong:
        return st.one_of(st.sampled_from(_STRANGE), st.text(max_size=20))
    return st.sampled_from(known.words.get(name, (None,)))


@st.composite
def _damaged(draw: Draw, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of `whole` with one changed, the rest missing, a part twice, or one more."""
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
def _frames(draw: Draw) -> bytes:
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
    st.binary(max_size=300),
    _frames(),
    _damaged(_frames()),
    st.sampled_from(_LINES),
    _damaged(st.sampled_from(_LINES)),
)
"""What a socket gets instead of a protocol."""
