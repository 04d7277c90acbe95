"""The functions of msgpack as they are at import.

A job may replace them in the module `msgpack` later (`msgpack_numpy.patch()` does). That does not change these names.
`msgpack.packb` would not do: it looks up `Packer` at each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgpack.exceptions import UnpackException
from msgpack.ext import ExtType

if TYPE_CHECKING:
    from msgpack import Packer, Unpacker, unpackb
else:
    try:
        from msgpack._cmsgpack import Packer, Unpacker, unpackb
    except ImportError:
        from msgpack.fallback import Packer, Unpacker, unpackb

__all__ = ["ExtType", "Packer", "UnpackException", "Unpacker", "packb", "unpackb"]


def packb(value: Any, **options: Any) -> bytes:
    """Return the value as msgpack. The options are those of `Packer`."""
    packed: bytes = Packer(**options).pack(value)
    return packed
