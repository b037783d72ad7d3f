"""A SPDY connection with its streams: the thin shell around spdy.SpdyServer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from mizzen.embedded.apiserver.streams import spdy
from mizzen.embedded.apiserver.streams.duplex import Duplex


class SpdyStream:
    """One stream that the client opened."""

    UNREAD = 64
    """Frames that may wait for whoever reads the stream."""

    def __init__(self, session: SpdySession, number: int, headers: Mapping[str, str]) -> None:
        self._session = session
        self.number = number
        self.headers = headers
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = asyncio.Event()
        self._ended = False
        self._dropped = False

    async def feed(self, data: bytes) -> None:
        """Waits while too much is unread: SPDY without flow control can only hold up the whole connection."""
        while self._incoming.qsize() >= self.UNREAD and not self._dropped:
            self._room.clear()
            await self._room.wait()
        if data and not self._dropped:
            self._incoming.put_nowait(data)

    def drop(self) -> None:
        """Nobody reads it any more: what still comes must not hold up the other streams."""
        self._dropped = True
        self._room.set()

    def feed_end(self) -> None:
        self._incoming.put_nowait(b"")

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the client sends, until it ends its side."""
        while data := await self._incoming.get():
            self._room.set()
            yield data

    async def send(self, data: bytes) -> None:
        if data and not self._ended:
            await self._session.send(self.number, data, end=False)

    async def end(self, data: bytes = b"") -> None:
        """Send the last bytes of our side. Further calls do nothing."""
        if not self._ended:
            self._ended = True
            await self._session.send(self.number, data, end=True)


class SpdySession:
    """Reads a client's connection until it ends; `opened` gives its streams as they come."""

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex
        self._codec = spdy.SpdyServer()
        self._streams: dict[int, SpdyStream] = {}
        self.opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        """None follows when no more can come."""

    async def run(self) -> None:
        """Until the client closes. Raises SpdyError, ConnectionError."""
        try:
            while data := await self._duplex.read():
                for event in self._codec.receive(data):
                    await self._dispatch(event)
                await self._flush()
        finally:
            for stream in self._streams.values():
                stream.feed_end()
            self.opened.put_nowait(None)

    async def _dispatch(self, event: spdy.Event) -> None:
        match event:
            case spdy.StreamOpened(number, headers, ended):
                stream = self._streams[number] = SpdyStream(self, number, headers)
                self._codec.accept(number)
                if ended:
                    stream.feed_end()
                self.opened.put_nowait(stream)
            case spdy.DataReceived(number, data, ended):
                await self._receive(number, data, ended)
            case spdy.StreamReset(number):
                await self._receive(number, b"", True)

    async def _receive(self, number: int, data: bytes, ended: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return  # both sides had ended it
        await stream.feed(data)
        if ended:
            stream.feed_end()

    async def send(self, stream: int, data: bytes, *, end: bool) -> None:
        self._codec.send(stream, data, end=end)
        await self._flush()

    async def _flush(self) -> None:
        if output := self._codec.take_output():
            await self._duplex.write(output)

    def forget(self, *streams: SpdyStream) -> None:
        """Both sides of these have ended, or nobody listens to the client's."""
        for stream in streams:
            stream.drop()
            self._streams.pop(stream.number, None)

    async def close(self) -> None:
        await self._duplex.close()
