"""The server's end of an HTTP/2 connection as a state machine: bytes in, bytes out, no I/O.

https://www.rfc-editor.org/rfc/rfc9113.html

As much of the protocol as gRPC uses. Why not a library: docs/decisions/0007-our-own-http2.md
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias

from hpack import Decoder, HPACKError

from mizzen.ads.frames import (
    ACK,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    LARGEST_WINDOW,
    PADDED,
    Code,
    Cutter,
    Kind,
    ProtocolError,
    Setting,
    content,
    frame,
    goaway,
    header,
    number,
    read_settings,
    settings,
    window_update,
)

MAX_STREAMS = 100
RECEIVE_WINDOW = DEFAULT_WINDOW
"""Of each stream and of the connection, in bytes: what a peer may send before we have read it. TLS keeps buffers as
large as what came at once, for each of a thousand peers: a small window keeps them small."""
_MAX_HEADER_BLOCK = 1 << 16
_DATA = int(Kind.DATA)
"""Almost every frame is one: to look an enumeration's member up takes its time."""
_MAX_UNREAD_ANSWERS = 1_000
"""Answers to SETTINGS and PING for a peer that does not read."""
_BATCH = 1 << 16
"""Bytes that go to the transport at once, before it is asked whether it can take more."""

Headers: TypeAlias = dict[bytes, bytes]


class Events(Protocol):
    """Who serves a stream."""

    def received(self, data: bytes) -> None: ...

    def ended(self) -> None:
        """The peer will send no more."""
        ...

    def lost(self) -> None:
        """The stream is no more: reset by the peer, or gone with its connection."""
        ...


class Stream:
    """One request and what is sent in return."""

    __slots__ = (
        "_trailers",
        "answered",
        "connection",
        "events",
        "id",
        "open",
        "outgoing",
        "peer_ended",
        "unread",
        "window",
    )

    def __init__(self, connection: Connection, number: int, window: int) -> None:
        self.connection = connection
        self.id = number
        self.window = window
        """Bytes that the peer allows us to send."""
        self.unread = 0
        """Bytes received since the peer was last allowed more."""
        self.outgoing: deque[memoryview] = deque()
        self.open = True
        self.answered = False
        self.peer_ended = False
        self.events: Events | None = None
        self._trailers: bytes | None = None

    def send(self, *pieces: bytes) -> None:
        """DATA, in order. What window or transport do not allow yet waits, without being copied."""
        if not self.outgoing and self.connection.sent_at_once(self, pieces):
            return
        self.outgoing.extend(map(memoryview, pieces))
        self.connection.pump(self)

    def answer(self, headers: bytes) -> None:
        """The response's headers, encoded."""
        self.answered = True
        self.connection.write(frame(Kind.HEADERS, END_HEADERS, self.id, headers))

    def end(self, trailers: bytes) -> None:
        """The last headers, encoded; they follow what waits to be sent. The stream's events are over at once."""
        if self.open:
            self.events = None
            self._trailers = trailers
            self.connection.pump(self)

    def finish(self) -> None:
        """Once all is sent."""
        if self._trailers is None or self.outgoing:
            return
        self.connection.write(frame(Kind.HEADERS, END_HEADERS | END_STREAM, self.id, self._trailers))
        if not self.peer_ended:
            self.connection.write(frame(Kind.RST_STREAM, 0, self.id, Code.NO_ERROR.to_bytes(4)))
        self.connection.forget(self)


class Connection:
    """`accept` is told each new stream's headers and says who serves it; None: the stream was answered already."""

    def __init__(self, write: Callable[[bytes], object], accept: Callable[[Stream, Headers], Events | None]) -> None:
        self.write = write
        self.streams: dict[int, Stream] = {}
        self.paused = False
        """Whether the transport has enough to write."""
        self.pings_answered = 0
        self._accept = accept
        self._decoder = Decoder(max_header_list_size=_MAX_HEADER_BLOCK)
        self._cutter = Cutter()
        self._last_stream = 0
        self._leaving = False
        self._window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._frame_size = DEFAULT_FRAME_SIZE
        self._unread = 0
        self._unread_answers = 0
        self._block: tuple[int, int, bytes] | None = None
        """Headers that CONTINUATION frames go on with: stream, flags, and the block so far."""
        write(settings({Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS, Setting.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BLOCK}))

    # What the transport tells

    def receive(self, data: bytes) -> None:
        """Raises ProtocolError; then `goaway` and close."""
        for kind, flags, stream, payload in self._cutter.frames(data):
            self._frame(kind, flags, stream, payload)

    def resume(self) -> None:
        """The transport takes more."""
        self.paused = False
        self._unread_answers = 0
        self._pump_all()

    def lost(self) -> None:
        """The connection is no more."""
        for stream in list(self.streams.values()):
            self._drop(stream)

    # What the server tells

    def ping(self) -> None:
        self.write(frame(Kind.PING, 0, 0, bytes(8)))

    def goaway(self, code: Code = Code.NO_ERROR, message: str = "") -> None:
        """No new streams; those that are there may end."""
        self._leaving = True
        self.write(goaway(self._last_stream, code, message))

    # What streams need

    def sent_at_once(self, stream: Stream, pieces: tuple[bytes, ...]) -> bool:
        """Send in one frame, if that is possible: so go almost all responses."""
        size = sum(map(len, pieces))
        if self.paused or size > self._frame_size or size > stream.window or size > self._window:
            return False
        stream.window -= size
        self._window -= size
        self.write(b"".join((header(_DATA, 0, stream.id, size), *pieces)))
        return True

    def pump(self, stream: Stream) -> None:
        """Send what may be sent."""
        while stream.outgoing and not self.paused and (batch := self._batch(stream)):
            self.write(b"".join(batch))
        stream.finish()

    def _batch(self, stream: Stream) -> list[bytes | memoryview]:
        """Frames of some of what waits."""
        batch: list[bytes | memoryview] = []
        room = first = min(self._window, stream.window, _BATCH)
        while stream.outgoing and room > 0:
            piece = stream.outgoing.popleft()
            size = min(len(piece), room, self._frame_size)
            batch += header(Kind.DATA, 0, stream.id, size), piece[:size]
            room -= size
            if size < len(piece):
                stream.outgoing.appendleft(piece[size:])
        stream.window -= first - room
        self._window -= first - room
        return batch

    def forget(self, stream: Stream) -> None:
        stream.open = False
        self.streams.pop(stream.id, None)

    def _pump_all(self) -> None:
        for stream in list(self.streams.values()):
            if stream.outgoing:
                self.pump(stream)

    def _drop(self, stream: Stream) -> None:
        self.forget(stream)
        stream.outgoing.clear()
        if stream.events is not None:
            events, stream.events = stream.events, None
            events.lost()

    # Frames

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and kind != Kind.CONTINUATION:
            raise ProtocolError(Code.PROTOCOL_ERROR, "headers that are not continued")
        if kind == _DATA:
            self._data(flags, stream, payload)
        elif known := _FRAMES.get(kind):
            known(self, flags, stream, payload)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._unread += len(payload)
        if self._unread > RECEIVE_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more than the connection's window")
        stream = self.streams.get(number)
        if stream is None:
            self._require_past(Kind.DATA, number)
        else:
            self._data_of(stream, flags, payload)
        if self._unread >= RECEIVE_WINDOW // 2:
            self.write(window_update(0, self._unread))
            self._unread = 0

    def _data_of(self, stream: Stream, flags: int, payload: bytes) -> None:
        if stream.peer_ended:
            raise ProtocolError(Code.STREAM_CLOSED, "DATA after the end of its stream")
        stream.unread += len(payload)
        if stream.unread > RECEIVE_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "more than the stream's window")
        data = content(Kind.DATA, flags, payload) if flags & PADDED else payload
        if stream.unread >= RECEIVE_WINDOW // 2:
            self.write(window_update(stream.id, stream.unread))
            stream.unread = 0
        if data and stream.events is not None:
            stream.events.received(data)
        if flags & END_STREAM:
            self._ended(stream)

    def _ended(self, stream: Stream) -> None:
        stream.peer_ended = True
        if stream.events is not None:
            stream.events.ended()

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        self._continued(number, flags, content(Kind.HEADERS, flags, payload))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ProtocolError(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first, block = self._block
        self._continued(number, first | flags & END_HEADERS, block + payload)

    def _continued(self, number: int, flags: int, block: bytes) -> None:
        if len(block) > _MAX_HEADER_BLOCK:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "headers too large")
        self._block = None if flags & END_HEADERS else (number, flags, block)
        if self._block is None:
            self._opened(number, self._decoded(block), bool(flags & END_STREAM))

    def _decoded(self, block: bytes) -> Headers:
        try:
            return dict(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise ProtocolError(Code.COMPRESSION_ERROR, f"headers that cannot be read: {error}") from error

    def _opened(self, number: int, headers: Headers, ended: bool) -> None:
        if known := self.streams.get(number):  # trailers, which say nothing here
            if known.peer_ended or not ended:
                raise ProtocolError(Code.PROTOCOL_ERROR, "headers in the middle of a stream")
            return self._ended(known)
        if number % 2 == 0 or number <= self._last_stream:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"stream {number} cannot be opened")
        self._last_stream = number
        if self._leaving or len(self.streams) >= MAX_STREAMS:
            return self._answer(frame(Kind.RST_STREAM, 0, number, Code.REFUSED_STREAM.to_bytes(4)))
        stream = self.streams[number] = Stream(self, number, self._initial_window)
        stream.peer_ended = ended
        stream.events = self._accept(stream, headers)
        if ended:
            self._ended(stream)
        return None

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        _number(Kind.RST_STREAM, payload)
        if stream := self.streams.get(number):
            self._drop(stream)
        else:
            self._require_past(Kind.RST_STREAM, number)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or (flags & ACK and payload):
            raise ProtocolError(Code.PROTOCOL_ERROR, "SETTINGS of a stream, or an acknowledgement with content")
        if flags & ACK:
            return
        for name, value in read_settings(payload):
            if name == Setting.INITIAL_WINDOW_SIZE:
                self._window_of_streams(value)
            elif name == Setting.MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_SIZE <= value < 1 << 24:
                    raise ProtocolError(Code.PROTOCOL_ERROR, f"frames of {value} bytes")
                self._frame_size = min(value, _BATCH)
        self._answer(frame(Kind.SETTINGS, ACK, 0))
        self._pump_all()

    def _window_of_streams(self, size: int) -> None:
        for stream in self.streams.values():
            stream.window = _window(stream.window + size - self._initial_window)
        self._initial_window = _window(size)

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise ProtocolError(Code.FRAME_SIZE_ERROR if not stream else Code.PROTOCOL_ERROR, "a malformed PING")
        if flags & ACK:
            self.pings_answered += 1
        else:
            self._answer(frame(Kind.PING, ACK, 0, payload))

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        increment = _number(Kind.WINDOW_UPDATE, payload) & LARGEST_WINDOW
        if not increment:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a window that grows by nothing")
        if number == 0:
            self._window = _window(self._window + increment)
            self._pump_all()
        elif stream := self.streams.get(number):
            stream.window = _window(stream.window + increment)
            if stream.outgoing:
                self.pump(stream)
        else:
            self._require_past(Kind.WINDOW_UPDATE, number)

    def _refused(self, _: int, __: int, ___: bytes) -> None:
        raise ProtocolError(Code.PROTOCOL_ERROR, "clients do not promise")

    def _require_past(self, kind: Kind, number: int) -> None:
        """Frames of a stream that has ended may still be on their way; one that never was is a mistake."""
        if number == 0 or number > self._last_stream:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"{kind.name} of stream {number}, which is not open")

    def _answer(self, answer: bytes) -> None:
        """What a peer can ask for as often as it likes."""
        if self.paused:
            self._unread_answers += 1
        if self._unread_answers > _MAX_UNREAD_ANSWERS:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "asks without reading the answers")
        self.write(answer)


_number = number
_FRAMES: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    Kind.HEADERS: Connection._headers,
    Kind.RST_STREAM: Connection._reset,
    Kind.SETTINGS: Connection._settings,
    Kind.PUSH_PROMISE: Connection._refused,
    Kind.PING: Connection._ping,
    Kind.WINDOW_UPDATE: Connection._window_update,
    Kind.CONTINUATION: Connection._continuation,
}
"""By type. PRIORITY and GOAWAY ask for nothing; frames of unknown types are to be ignored."""


def _window(size: int) -> int:
    if size > LARGEST_WINDOW:
        raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a window larger than 2^31-1")
    return size
