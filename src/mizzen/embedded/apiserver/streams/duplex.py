"""A connection that carries bytes both ways: a taken-over HTTP connection, or the binary messages of a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import WSMsgType, web


class Duplex(Protocol):
    """What SPDY runs on."""

    async def read(self) -> bytes:
        """Some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the peer is gone."""
        ...

    async def close(self) -> None: ...


class WebSocketDuplex:
    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (message := await self._socket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
            if message.type is WSMsgType.BINARY and message.data:
                data: bytes = message.data
                return data
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        await self._socket.close()


class _Takeover(asyncio.Protocol):
    """Stands in for aiohttp's protocol once a connection has left HTTP."""

    HIGH_WATER = 64
    """Received pieces that may wait before the client is told to stop."""

    def __init__(self, transport: asyncio.Transport, before: asyncio.BaseProtocol) -> None:
        self.transport = transport
        self._before = before
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.writable = asyncio.Event()
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._incoming.put_nowait(data)
        if self._incoming.qsize() > self.HIGH_WATER:
            self.transport.pause_reading()

    async def next_piece(self) -> bytes:
        data = await self._incoming.get()
        if self._incoming.qsize() <= self.HIGH_WATER and not (
            self.transport.is_closing() or self.transport.is_reading()
        ):
            self.transport.resume_reading()
        return data

    def eof_received(self) -> bool:
        self._incoming.put_nowait(b"")
        return self.transport.get_extra_info("sslcontext") is None  # TLS cannot keep the other direction open

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        self._incoming.put_nowait(b"")
        self._before.connection_lost(exc)


class RawDuplex:
    """The TCP or TLS connection below a request, after `101 Switching Protocols`."""

    def __init__(self, protocol: _Takeover) -> None:
        self._protocol = protocol

    async def read(self) -> bytes:
        return await self._protocol.next_piece()

    async def write(self, data: bytes) -> None:
        await self._protocol.writable.wait()
        if self._protocol.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._protocol.transport.write(data)

    async def close(self) -> None:
        self._protocol.transport.close()


class TakenOver(web.StreamResponse):
    """What a handler returns for a connection that no longer speaks HTTP: aiohttp must write nothing."""

    async def prepare(self, request: web.BaseRequest) -> None:
        self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        return


def take_over(request: web.BaseRequest, headers: dict[str, str]) -> RawDuplex:
    """Answer 101 with these headers and take the connection from HTTP. Raises ConnectionError if it is gone."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    protocol = _Takeover(transport, request.protocol)
    transport.set_protocol(protocol)
    transport.write("\r\n".join(lines).encode())
    return RawDuplex(protocol)
