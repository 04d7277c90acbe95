"""msgpack's names as they are when this is imported: a job that replaces them in `msgpack` changes nothing here.

`msgpack_numpy.patch()` does so, for one. `msgpack.packb` itself looks `Packer` up at each call.
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
    """The value as msgpack, with the options of `Packer`."""
    packed: bytes = Packer(**options).pack(value)
    return packed
