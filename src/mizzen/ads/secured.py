"""TLS between a socket and a connection: as asyncio does it, but with buffers that a thousand peers can afford.

The event loops keep a quarter of a megabyte for each TLS connection, and OpenSSL's memory keeps the size of the largest
burst. Here all connections of a server share what bytes pass through.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Any, cast

log = logging.getLogger(__name__)

_RECORD = 1 << 14
"""Bytes of a full TLS record, decrypted."""


class Buffers:
    """What passes through on its way to or from any connection of one event loop. Empty whenever nobody is at work:
    OpenSSL takes all that came, even the half of a record, and what it has to say goes to the socket at once."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(1 << 13))
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()


class Secured(asyncio.BufferedProtocol, asyncio.Transport):
    """The server's end of TLS: a protocol to the socket's transport, a transport to `inner`.

    `inner` hears of the connection once the handshake is through, which may take `patience` seconds.
    """

    def __init__(self, context: ssl.SSLContext, inner: asyncio.Protocol, patience: float, buffers: Buffers) -> None:
        super().__init__()
        self._inner = inner
        self._patience = patience
        self._received = buffers.received
        self._incoming = buffers.incoming
        self._outgoing = buffers.outgoing
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._open = False
        self._closing = False

    # What the socket's transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().call_later(self._patience, self._late)

    def get_buffer(self, _: int) -> memoryview:
        return self._received

    def buffer_updated(self, count: int) -> None:
        self._incoming.write(self._received[:count])
        try:
            if not self._open:
                self._shake_hands()
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._fail(str(error))
        finally:
            if self._incoming.pending:  # of a peer that is not listened to any more
                self._incoming.read()

    def eof_received(self) -> bool:
        """False: the socket is closed."""
        return False

    def pause_writing(self) -> None:
        if self._open:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.cancel()
        self._closing = True
        if self._open:
            self._inner.connection_lost(error)

    # TLS

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self._flush()
        self._deadline.cancel()
        self._open = True
        self._inner.connection_made(self)

    def _read(self) -> None:
        """All whole records. Raises SSLWantReadError when the rest of one is yet to come."""
        while self._incoming.pending and not self._closing:
            data = self._tls.read(_RECORD)
            if self._outgoing.pending:  # an answer of TLS itself
                self._flush()
            if data:
                self._inner.data_received(data)
            else:
                self.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.write(self._outgoing.read())

    def _late(self) -> None:
        self._fail("no TLS handshake in time")

    def _fail(self, why: str) -> None:
        """What was written, an alert, still goes out."""
        self._closing = True
        log.info("connection from %s: %s", self._socket.get_extra_info("peername"), why)
        self._socket.close()

    # A transport to the inner protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's certificate is not kept: made of what OpenSSL holds when it is asked for."""
        if name == "ssl_object":
            return self._tls
        if name == "peercert":
            return self._tls.getpeercert()
        return self._socket.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._socket.set_write_buffer_limits(high, low)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # one peer's trouble: a push goes on to the others
            self._fail(str(error))
        self._flush()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What is written already goes out, and that it is all."""
        if self._closing:
            return
        self._closing = True
        with suppress(ssl.SSLError):  # nobody waits for the peer to say the same
            self._tls.unwrap()
        self._flush()
        self._socket.close()

    def abort(self) -> None:
        self._closing = True
        self._socket.abort()
