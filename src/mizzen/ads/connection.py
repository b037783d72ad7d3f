"""HTTP/2 connections on sockets: who the peer is, whether it still lives, and when it has been here too long."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from mizzen.ads import http2
from mizzen.ads.calls import Call, Served, Status, accepted
from mizzen.ads.frames import ProtocolError
from mizzen.ads.tls import peer_uris

log = logging.getLogger(__name__)

_BUFFERED = 1 << 14
"""Bytes, encrypted, that may wait beside what the socket takes; what else a peer is to be sent is shared with others.
What is smaller goes out when all have been told: to wake up each peer in between takes more of our time."""

Serve = Callable[[str, Call, tuple[str, ...]], Served | None]
"""Path, call, and the URI names of the peer's certificate -> who serves it, or None for a method that is not there."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    silence: float = 30.0
    """How long a peer may say nothing before it is asked whether it lives."""
    answer: float = 20.0
    """How long it may take to say so."""
    age: float = 30 * 60.0
    """How long a connection lives, give or take a tenth. A stream that we end opens again on the same TLS connection:
    only its age makes a proxy show a newer certificate."""
    grace: float = 5.0
    """How long its streams may go on after that."""


PATIENCE = Patience()


class Connection(asyncio.Protocol):
    """One peer."""

    def __init__(self, everyone: set[Connection], serve: Serve, patience: Patience) -> None:
        self._everyone = everyone
        self._serve = serve
        self._patience = patience
        self._identities: tuple[str, ...] = ()
        self._heard = False

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != "h2":
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(_BUFFERED)
        self._identities = peer_uris(transport.get_extra_info("peercert"))
        self._http = http2.Connection(self._transport.write, self._accept)
        self._everyone.add(self)
        loop, age = asyncio.get_running_loop(), self._patience.age
        self.over = loop.create_future()
        self._later = loop.call_later
        self._aging = self._later(age * random.uniform(0.9, 1.1), self._grow_old)  # noqa: S311 - not a secret
        self._watching = self._later(self._patience.silence, self._ask)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._http.receive(data)
        except ProtocolError as error:
            log.warning("connection of %s: %s", ", ".join(self._identities) or "nobody", error)
            self._http.goaway(error.code, str(error))
            self.close()

    def pause_writing(self) -> None:
        self._http.paused = True

    def resume_writing(self) -> None:
        self._http.resume()

    def connection_lost(self, _: Exception | None) -> None:
        if self in self._everyone:
            self._everyone.discard(self)
            self._aging.cancel()
            self._watching.cancel()
            self._http.lost()
            self.over.set_result(None)

    # Calls

    def _accept(self, stream: http2.Stream, headers: http2.Headers) -> http2.Events | None:
        return accepted(stream, headers, self._called)

    def _called(self, path: str, call: Call) -> Served | None:
        return self._serve(path, call, self._identities)

    # Life

    def _ask(self) -> None:
        """After a while of silence."""
        if self._heard:
            self._heard = False
            self._watching = self._later(self._patience.silence, self._ask)
        else:
            self._http.ping()
            self._watching = self._later(self._patience.answer, self._give_up)

    def _give_up(self) -> None:
        if self._heard:
            self._ask()
        else:
            log.warning("connection of %s: no sign of life", ", ".join(self._identities) or "nobody")
            self._transport.abort()

    def _grow_old(self) -> None:
        self._http.goaway()
        self._aging = self._later(self._patience.grace, self.leave, "the connection is old")

    def leave(self, why: str) -> None:
        """End all calls, and then the connection."""
        self._http.goaway()
        for stream in list(self._http.streams.values()):
            if isinstance(stream.events, Call):
                stream.events.end(Status.UNAVAILABLE, why)
        self.close()

    def close(self) -> None:
        """What is written already still goes out."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
