"""Protobuf's wire format, as far as composing messages from parts that are serialised already needs it.

Concatenating fields is legal protobuf: a parser cannot tell the result from a message serialised at once.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable

LENGTH_DELIMITED, VARINT = 2, 0


def varint(value: int) -> bytes:
    """`value` (not negative) in base 128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and the position behind it. Raises IndexError when the data ends first."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def nested(field: int, body: bytes) -> bytes:
    """A message or string field with its tag and length."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(len(body)) + body


def repeated(field: int, bodies: Iterable[bytes]) -> bytes:
    """A repeated message field."""
    tag = varint(field << 3 | LENGTH_DELIMITED)
    return b"".join(part for body in bodies for part in (tag, varint(len(body)), body))
