"""SPDY/3.1 frames without I/O: what `kubectl exec` before 1.31 and `kubectl port-forward` speak.

The server's side only: clients open streams. Flow control is left out, as Kubernetes' own library (moby/spdystream)
leaves it out. Protocol: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 0x01
_CONTROL_BIT = 0x80000000
_VERSION = 3
_CANCEL = 5
_HEADER_BYTES = 8
MAX_DATA = 64 * 1024
"""Longer data is split into several frames; a frame could carry 16 MiB."""

_NAMES = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match
if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range
referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get
status
"""
_AFTER_NAMES = (
    ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"),
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
)


def _counted(words: Iterable[str]) -> bytes:
    return b"".join(struct.pack(">I", len(word)) + word.encode() for word in words)


DICTIONARY = _counted((*_NAMES.split(), *_AFTER_NAMES[0])) + _AFTER_NAMES[1].encode()
"""What both sides' header compression starts from (draft 3.1, section 2.6.10.1)."""


class SpdyError(Exception):
    """The peer does not speak SPDY/3.1; the connection is lost."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: Mapping[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class DataReceived:
    """`ended`: the client sends no more on this stream."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The client opens no more streams."""


Event: TypeAlias = StreamOpened | DataReceived | StreamReset | GoneAway


class SpdyServer:
    """One connection. Feed it what arrives; send what `take_output` gives."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._output = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> list[Event]:
        """Raises SpdyError."""
        self._input += data
        events: list[Event] = []
        while (frame := self._next_frame()) is not None:
            events += self._read(*frame)
        return events

    def take_output(self) -> bytes:
        """What is to be sent now, removed from the queue."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def accept(self, stream: int) -> None:
        """Answer an opened stream."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._control(_SYN_REPLY, 0, struct.pack(">I", stream) + block)

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Data, and possibly the end, of our side of a stream."""
        chunks = [data[at : at + MAX_DATA] for at in range(0, len(data), MAX_DATA)] or [b""]
        for number, chunk in enumerate(chunks, 1):
            flags = _FIN if end and number == len(chunks) else 0
            self._output += struct.pack(">II", stream, flags << 24 | len(chunk)) + chunk

    def reset(self, stream: int) -> None:
        self._control(_RST_STREAM, 0, struct.pack(">II", stream, _CANCEL))

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        self._output += struct.pack(">HHI", 0x8000 | _VERSION, kind, flags << 24 | len(payload)) + payload

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        if len(self._input) < _HEADER_BYTES:
            return None
        first, second = struct.unpack_from(">II", self._input)
        end = _HEADER_BYTES + (second & 0xFFFFFF)
        if len(self._input) < end:
            return None
        payload = bytes(self._input[_HEADER_BYTES:end])
        del self._input[:end]
        return first, second >> 24, payload

    def _read(self, first: int, flags: int, payload: bytes) -> list[Event]:
        if not first & _CONTROL_BIT:
            return [DataReceived(first, payload, bool(flags & _FIN))]
        if first >> 16 & 0x7FFF != _VERSION:
            raise SpdyError(f"the client speaks version {first >> 16 & 0x7FFF} of SPDY, not 3")
        try:
            return self._read_control(first & 0xFFFF, flags, payload)
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"a malformed SPDY frame: {error}") from error

    def _read_control(self, kind: int, flags: int, payload: bytes) -> list[Event]:
        if kind == _SYN_STREAM:
            (stream,) = struct.unpack_from(">I", payload)
            return [StreamOpened(stream, self._headers(payload[10:]), bool(flags & _FIN))]
        if kind == _RST_STREAM:
            return [StreamReset(struct.unpack_from(">I", payload)[0])]
        if kind == _PING:
            if struct.unpack(">I", payload)[0] % 2:  # the client's own; an even one answers ours
                self._control(_PING, 0, payload)
        elif kind == _GOAWAY:
            return [GoneAway()]
        return []  # SETTINGS, HEADERS and WINDOW_UPDATE change nothing here

    def _headers(self, block: bytes) -> dict[str, str]:
        data = self._inflate.decompress(block)
        (count,), at = struct.unpack_from(">I", data), 4
        texts: list[str] = []
        for _ in range(2 * count):
            (size,) = struct.unpack_from(">I", data, at)
            texts.append(data[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return dict(zip(texts[::2], texts[1::2], strict=True))
