"""HTTP/2 frames and settings, as bytes. Pure.

https://www.rfc-editor.org/rfc/rfc9113.html#section-4
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
DEFAULT_FRAME_SIZE = 16_384
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

_HEADER = Struct(">HBBBL")
_SETTING = Struct(">HL")


class Kind(IntEnum):
    """https://www.rfc-editor.org/rfc/rfc9113.html#section-6"""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """https://www.rfc-editor.org/rfc/rfc9113.html#section-7"""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """https://www.rfc-editor.org/rfc/rfc9113.html#section-6.5.2"""

    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ProtocolError(Exception):
    """The peer broke a rule in a way that ends the connection."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload of `length` bytes."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return header(kind, flags, stream, len(payload)) + payload


class Cutter:
    """Cuts what a client sends, in whatever pieces it comes, into frames. The first bytes must be the preface."""

    __slots__ = ("_greeted", "_rest")

    def __init__(self) -> None:
        self._greeted = False
        self._rest = b""

    def frames(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each that is whole now. Raises ProtocolError."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        if not self._greeted:
            at, self._rest = self._greeting(data), data
            if not self._greeted:
                return
        while end - at >= HEADER_SIZE:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > DEFAULT_FRAME_SIZE:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + HEADER_SIZE
            if start + length > end:
                break
            at = start + length
            yield kind, flags, stream & LARGEST_WINDOW, data[start:at]
        self._rest = data[at:]

    def _greeting(self, data: bytes) -> int:
        """The end of the preface, if it is here; what is here of it must be right. Raises ProtocolError."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ProtocolError(Code.PROTOCOL_ERROR, "not an HTTP/2 client")
        self._greeted = len(data) >= len(PREFACE)
        return len(PREFACE)


def settings(values: dict[Setting, int]) -> bytes:
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values, in order. Raises ProtocolError."""
    if len(payload) % _SETTING.size:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "SETTINGS of no whole number of entries")
    return list(_SETTING.iter_unpack(payload))


def number(kind: Kind, payload: bytes) -> int:
    """The payload of a frame that is nothing but 32 bits. Raises ProtocolError."""
    if len(payload) != 4:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, f"{kind.name} of {len(payload)} bytes")
    return int.from_bytes(payload)


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def goaway(last_stream: int, code: Code, message: str = "") -> bytes:
    return frame(Kind.GOAWAY, 0, 0, last_stream.to_bytes(4) + code.to_bytes(4) + message.encode())


def content(kind: Kind, flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without padding and priority. Raises ProtocolError."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "a padded frame without its length of padding")
        start, end = 1, end - payload[0]
    if flags & PRIORITIZED and kind is Kind.HEADERS:
        start += 5
    if start > end:
        raise ProtocolError(Code.PROTOCOL_ERROR, f"{kind.name} with more padding than payload")
    return payload[start:end]
