"""The wire format of values: msgpack with MutiTask's extension types."""

from __future__ import annotations

import datetime as dt
import sys
import threading
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from worker_agent.protocol import codec
from worker_agent.protocol.errors import Unpackable

MAX_BYTES = 64 * 1024 * 1024
"""The largest task or result, in bytes once packed."""
MAX_DEPTH = 32
"""How deep tuples and sets may be nested. Unpacking takes 40 kB of stack for each level."""

MAX_NESTED_BYTES = 2 * MAX_BYTES
"""The limit for the bytes of a tuple, set or array, times its depth: each level holds a copy of its own."""
MAX_INT_BYTES = 1785
"""The largest int beyond msgpack's own ints: 4,299 digits. From 4,300 digits on, Python refuses to convert to text."""
CHECKED_BYTES = 4096
"""From this size on, packed data is checked before it is unpacked. See `_refuse_missing_elements`."""

_DATETIME, _DATE, _TIME, _TIMEDELTA = 1, 2, 3, 4
_TUPLE, _SET, _FROZENSET = 5, 6, 7
_DECIMAL, _UUID, _COMPLEX, _INT = 8, 9, 10, 11
_NDARRAY, _NUMPY_SCALAR = 13, 14


class Undecodable(ValueError):
    """The bytes are not a value that MutiTask packed."""


def pack(value: Any) -> bytes:
    """Return the value as msgpack. A bytearray becomes bytes.

    Raises `Unpackable`, which names the type that cannot be packed.
    """
    return _local.packing.pack(value)


class ValuePacker:
    """A packer for one thread. A new packer for each value would take seven times as long as packing a short text."""

    __slots__ = ("_encoder", "_packer")

    def __init__(self) -> None:
        self._encoder = _Encoder()
        self._packer = self._fresh()

    def _fresh(self) -> codec.Packer:
        return codec.Packer(default=self._encoder, strict_types=True, buf_size=_BUFFER_BYTES)

    def pack(self, value: Any) -> bytes:
        """Return the value as msgpack, like the function `pack`."""
        self._encoder.depth = 0
        try:
            packed: bytes = self._packer.pack(value)
        except Unpackable:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unpackable(f"a {type(value).__name__} that msgpack cannot carry: {error}") from None
        if len(packed) > _BUFFER_BYTES:
            self._packer = self._fresh()  # The old packer would keep its large buffer.
            if len(packed) > MAX_BYTES:
                raise Unpackable(
                    f"a {type(value).__name__} of {len(packed):,} bytes once packed; the most is 64 MiB"
                )
        return packed


_BUFFER_BYTES = 256 * 1024


def unpack(packed: bytes, depth: int = 0) -> Any:
    """Return an equal value of the same type. Evaluates and unpickles nothing. Raises `Undecodable`.

    `depth` is the number of tuples, sets and arrays around the value.
    """
    hook = _decode_at_top
    if depth:
        if depth > MAX_DEPTH:
            raise Undecodable("too deeply nested")
        if depth * len(packed) > MAX_NESTED_BYTES:
            raise Undecodable("too large for how deeply it is nested")

        def hook(code: int, data: bytes) -> Any:
            return _decode(code, data, depth + 1)

    try:
        if len(packed) >= CHECKED_BYTES:
            _refuse_missing_elements(packed)
        return codec.unpackb(packed, ext_hook=hook, strict_map_key=False)
    except Undecodable:
        raise
    except Exception as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from None


def _refuse_missing_elements(packed: bytes) -> None:
    """Raise an error if a list announces more elements than follow.

    msgpack allocates memory for all announced elements, on each of 511 levels. A megabyte of such lists takes 4 GB.
    """
    walker = codec.Unpacker(read_size=1, max_buffer_size=len(packed), strict_map_key=False)
    walker.feed(packed)
    walker.skip()


class _Encoder:
    """msgpack's `default` for one value: turn objects that msgpack does not know into extension types."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = 0

    def __call__(self, value: Any) -> codec.ExtType:
        kind = type(value)
        if kind in _CONTAINERS:
            return codec.ExtType(
                _CONTAINERS[kind], self._nested(list(value) if kind is tuple else _in_order(value))
            )
        encode = _ENCODERS.get(kind)
        if encode is not None:
            code, data = encode(value)
            return codec.ExtType(code, data)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray) and kind is numpy.ndarray:
            return codec.ExtType(_NDARRAY, self._array(value))
        if numpy is not None and isinstance(value, numpy.generic):
            return codec.ExtType(_NUMPY_SCALAR, self._array(numpy.asarray(value)))
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise Unpackable(f"a value of type {module}{kind.__qualname__}, which msgpack cannot carry")

    def _nested(self, value: Any) -> bytes:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unpackable(f"tuples or sets more than {MAX_DEPTH} deep")
        if self.depth > 2:
            _refuse_deep_lists(value)
        packed: bytes = codec.packb(value, default=self, strict_types=True)
        if self.depth * len(packed) > MAX_NESTED_BYTES:
            raise Unpackable(f"{len(packed):,} bytes within tuples, sets or arrays {self.depth} deep")
        self.depth -= 1
        return packed

    def _array(self, array: Any) -> bytes:
        if array.dtype.hasobject:
            raise Unpackable("a numpy array of Python objects, which msgpack cannot carry")
        described = array.dtype.descr if array.dtype.names else array.dtype.str
        # Without a copy, if it can be. Not every kind of array exports its own buffer.
        plain = array.flags.c_contiguous and array.nbytes
        raw = array.reshape(-1).view("u1").data if plain else array.tobytes()
        return self._nested([described, list(array.shape), raw])


def _in_order(value: Any) -> list[Any]:
    """Return a set's elements in an order that is the same in every process, so that equal sets are packed equally."""
    try:
        return sorted(value, key=lambda element: (type(element).__name__, repr(element)))
    except (ValueError, RecursionError):
        return list(value)


def _refuse_deep_lists(value: Any) -> None:
    """Raise `Unpackable` if lists and dicts in nested tuples are more than 32 deep.

    msgpack allows 511 levels in each tuple and needs about 400 bytes of stack for each level. Together they could
    overflow the stack, which raises no exception.
    """
    levels = [(value, 1)]
    while levels:
        container, depth = levels.pop()
        if depth > 32:
            raise Unpackable("lists nested too deeply within tuples or sets")
        inner = container.values() if type(container) is dict else container
        levels += [(each, depth + 1) for each in inner if type(each) in (list, dict)]


def _encode_datetime(value: dt.datetime) -> tuple[int, bytes]:
    zone = value.tzinfo
    if zone is not None and type(zone) not in (dt.timezone, ZoneInfo):
        raise Unpackable(f"a datetime with a time zone of type {type(zone).__qualname__}")
    if isinstance(zone, ZoneInfo) and zone.key is None:
        raise Unpackable("a datetime with a time zone without a name")
    bare = value if zone is None else value.replace(tzinfo=None)
    return _DATETIME, codec.packb([bare.isoformat(), _zone_out(zone), value.fold])


def _decode_datetime(data: bytes) -> dt.datetime:
    text, zone, fold = codec.unpackb(data)
    return dt.datetime.fromisoformat(text).replace(tzinfo=_zone_in(zone), fold=fold)


def _zone_out(zone: dt.tzinfo | None) -> str | list[int] | None:
    """Return a zone's name, or its offset in days, seconds and microseconds. `fromisoformat` loses microseconds."""
    if isinstance(zone, ZoneInfo):
        return zone.key
    offset = None if zone is None else zone.utcoffset(None)
    return None if offset is None else [offset.days, offset.seconds, offset.microseconds]


def _zone_in(zone: Any) -> dt.tzinfo | None:
    if zone is None:
        return None
    return ZoneInfo(zone) if isinstance(zone, str) else dt.timezone(dt.timedelta(*zone))


def _encode_time(value: dt.time) -> tuple[int, bytes]:
    if value.tzinfo is not None and type(value.tzinfo) is not dt.timezone:
        raise Unpackable("a time with a named time zone")
    return _TIME, codec.packb([value.replace(tzinfo=None).isoformat(), _zone_out(value.tzinfo), value.fold])


def _decode_time(data: bytes) -> dt.time:
    text, zone, fold = codec.unpackb(data)
    return dt.time.fromisoformat(text).replace(tzinfo=_zone_in(zone), fold=fold)


def _encode_int(value: int) -> tuple[int, bytes]:
    size = value.bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise Unpackable("an int of more than 4,299 digits")
    return _INT, value.to_bytes(size, "big", signed=True)


def _decode_int(data: bytes) -> int:
    if len(data) > MAX_INT_BYTES:
        raise Undecodable("an int of more than 4,299 digits")
    return int.from_bytes(data, "big", signed=True)


_CONTAINERS: dict[type, int] = {tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}

_ENCODERS: dict[type, Callable[[Any], tuple[int, bytes]]] = {
    dt.datetime: _encode_datetime,
    dt.date: lambda v: (_DATE, v.isoformat().encode()),
    dt.time: _encode_time,
    dt.timedelta: lambda v: (_TIMEDELTA, codec.packb([v.days, v.seconds, v.microseconds])),
    Decimal: lambda v: (_DECIMAL, str(v).encode()),
    uuid.UUID: lambda v: (_UUID, v.bytes),
    complex: lambda v: (_COMPLEX, codec.packb([v.real, v.imag])),
    int: _encode_int,
}

_DECODERS: dict[int, Callable[[bytes], Any]] = {
    _DATETIME: _decode_datetime,
    _DATE: lambda data: dt.date.fromisoformat(data.decode()),
    _TIME: _decode_time,
    _TIMEDELTA: lambda data: dt.timedelta(*codec.unpackb(data)),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _UUID: lambda data: uuid.UUID(bytes=data),
    _COMPLEX: lambda data: complex(*codec.unpackb(data)),
    _INT: _decode_int,
}


class _Local(threading.local):
    def __init__(self) -> None:
        self.packing = ValuePacker()


_local = _Local()


def _decode_at_top(code: int, data: bytes) -> Any:
    return _decode(code, data, 1)


def _decode(code: int, data: bytes, depth: int) -> Any:
    if code in _DECODERS:
        return _DECODERS[code](data)
    if code == _TUPLE:
        return tuple(unpack(data, depth))
    if code == _SET:
        return set(unpack(data, depth))
    if code == _FROZENSET:
        return frozenset(unpack(data, depth))
    if code in (_NDARRAY, _NUMPY_SCALAR):
        return _decode_array(code, data, depth)
    raise Undecodable(f"unknown extension type {code}")


def _decode_array(code: int, data: bytes, depth: int) -> Any:
    try:
        import numpy
    except ImportError:
        raise Undecodable("a numpy array, and numpy is not installed here") from None
    described, shape, raw = unpack(data, depth)
    dtype = numpy.lib.format.descr_to_dtype(described)
    if dtype.hasobject:
        raise Undecodable("a numpy array of Python objects")
    array = numpy.frombuffer(raw, dtype=dtype).reshape(shape).copy()
    _refuse_invalid_text(array)
    return array if code == _NDARRAY else array[()]


def _refuse_invalid_text(array: Any) -> None:
    """Raise `Undecodable` if an array of text contains numbers that are no characters. Python can crash on them."""
    dtype = array.dtype
    if dtype.names:
        for name in dtype.names:
            _refuse_invalid_text(array[name])
    elif dtype.kind == "U" and array.nbytes:
        import numpy

        codes = numpy.frombuffer(array.tobytes(), numpy.dtype("u4").newbyteorder(dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise Undecodable("an array of invalid text")
