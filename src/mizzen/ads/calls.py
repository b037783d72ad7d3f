"""gRPC calls over HTTP/2: messages in and out, and the status at the end. Pure.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol
from urllib.parse import quote

from mizzen.ads.http2 import Events, Headers, Stream

MAX_MESSAGE = 64 << 20
_PREFIX = 5


class Status(IntEnum):
    """https://grpc.io/docs/guides/status-codes/"""

    OK = 0
    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Served(Protocol):
    """Who serves a call."""

    def message(self, data: bytes) -> None: ...

    def closed(self) -> None:
        """The call is over, however it ended; called once."""
        ...


class Call:
    """One call. `serve` is told each message."""

    __slots__ = ("_partial", "_served", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._partial = bytearray()
        self._served: Served | None = None

    def serve(self, served: Served) -> None:
        self._served = served

    def send(self, message: bytes) -> None:
        """In order. What the peer does not take yet waits; nothing is sent after the end."""
        if self._served is None:
            return
        if not self._stream.answered:
            self._stream.answer(_RESPONSE)
        self._stream.send(b"\0" + len(message).to_bytes(4), message)

    def end(self, status: Status, message: str = "") -> None:
        """The last word; the second is ignored."""
        if self._served is not None:
            self._stream.end(_trailers(status, message, self._stream.answered))
            self.lost()

    # What HTTP/2 tells

    def received(self, data: bytes) -> None:
        if not self._partial and len(data) >= _PREFIX and not data[0] and len(data) == _PREFIX + _length(data):
            self._message(data[_PREFIX:])  # so come almost all
            return
        self._partial += data
        while self._served is not None and len(self._partial) >= _PREFIX and (size := self._size()) is not None:
            message = bytes(self._partial[_PREFIX : _PREFIX + size])
            del self._partial[: _PREFIX + size]
            self._message(message)

    def ended(self) -> None:
        self.end(Status.OK)

    def lost(self) -> None:
        served, self._served = self._served, None
        if served is not None:
            served.closed()

    def _message(self, message: bytes) -> None:
        if self._served is not None:
            self._served.message(message)

    def _size(self) -> int | None:
        """Of the message that came first, once it is whole."""
        size = _length(self._partial)
        if self._partial[0]:
            self.end(Status.UNIMPLEMENTED, "compressed messages are not understood")
        elif size > MAX_MESSAGE:
            self.end(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes; {MAX_MESSAGE} is the most")
        elif len(self._partial) >= _PREFIX + size:
            return size
        return None


def accepted(stream: Stream, headers: Headers, serve: Callable[[str, Call], Served | None]) -> Events | None:
    """Answer a request. `serve` is told the path and says who serves it, or None for a method that is not there."""
    if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
        stream.end(_header(b":status", b"415"))
        return None
    call, path = Call(stream), headers.get(b":path", b"").decode(errors="replace")
    served = serve(path, call)
    if served is None:
        stream.end(_trailers(Status.UNIMPLEMENTED, f"there is no method {path}", answered=False))
        return None
    call.serve(served)
    return call


def _length(data: bytes | bytearray) -> int:
    return int.from_bytes(data[1:_PREFIX])


def _header(name: bytes, value: bytes) -> bytes:
    """A literal that is not indexed (RFC 7541, 6.2.2): there is no table to keep. Both at most 16 KB."""
    return b"\0" + _string(name) + _string(value)


def _string(value: bytes) -> bytes:
    size, prefix = len(value), bytearray()
    if size < 0x7F:
        return bytes((size,)) + value
    prefix.append(0x7F)
    size -= 0x7F
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value


def _trailers(status: Status, message: str, answered: bool) -> bytes:
    text = quote(message[:_LONGEST_MESSAGE], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    told = _header(b"grpc-status", str(int(status)).encode()) + (_header(b"grpc-message", text) if text else b"")
    return told if answered else _RESPONSE + told


_LONGEST_MESSAGE = 1_000
_RESPONSE = _header(b":status", b"200") + _header(b"content-type", b"application/grpc")
