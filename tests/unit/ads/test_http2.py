"""HTTP/2 as bytes: what a client sends, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hpack import Decoder, Encoder

from mizzen.ads import frames
from mizzen.ads.calls import Call, Status, accepted
from mizzen.ads.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITIZED, Code, Kind, ProtocolError
from mizzen.ads.http2 import MAX_STREAMS, RECEIVE_WINDOW, Connection

HEADERS = [(":method", "POST"), (":path", "/echo"), (":scheme", "https"), ("content-type", "application/grpc")]


@dataclass
class Peer:
    """A client, and a service `/echo` that says everything twice."""

    written: bytearray = field(default_factory=bytearray)
    calls: list[Call] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.encoder, self.decoder = Encoder(), Decoder()
        self.connection = Connection(self.written.extend, lambda *one: accepted(*one, self.serve))
        self.send(PREFACE + frames.settings({}))
        self.answers()

    def serve(self, path: str, call: Call):
        self.calls.append(call)
        served = type("Echo", (), {"message": lambda _, data: self.say(call, data), "closed": lambda _: self.over()})
        return served() if path == "/echo" else None

    def say(self, call: Call, data: bytes) -> None:
        self.messages.append(data)
        call.send(data + data)

    def over(self) -> None:
        self.closed += 1

    def send(self, *sent: bytes) -> None:
        self.connection.receive(b"".join(sent))

    def open(self, number: int = 1, headers=HEADERS) -> None:
        self.send(frames.frame(Kind.HEADERS, END_HEADERS, number, self.encoder.encode(headers)))

    def message(self, data: bytes, stream: int = 1, flags: int = 0) -> None:
        self.send(frames.frame(Kind.DATA, flags, stream, framed(data)))

    def answers(self) -> list[tuple[Kind, int, int, bytes]]:
        found = []
        while self.written:
            size = int.from_bytes(self.written[:3])
            stream = int.from_bytes(self.written[5:9])
            found.append((Kind(self.written[3]), self.written[4], stream, bytes(self.written[9 : 9 + size])))
            del self.written[: 9 + size]
        return found

    def headers(self, block: bytes) -> dict[str, str]:
        return dict(self.decoder.decode(block))


def framed(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4) + data


def data_of(answers) -> bytes:
    return b"".join(payload for kind, _, _, payload in answers if kind is Kind.DATA)


@pytest.fixture
def peer() -> Peer:
    return Peer()


def refused(peer: Peer, *sent: bytes) -> Code:
    with pytest.raises(ProtocolError) as caught:
        peer.send(*sent)
    return caught.value.code


def test_headers_come_before_data_and_a_message_in_one_frame(peer: Peer) -> None:
    peer.open()
    peer.message(b"ab")
    (kind, flags, stream, block), data = peer.answers()
    assert (kind, flags, stream) == (Kind.HEADERS, END_HEADERS, 1)
    assert peer.headers(block) == {":status": "200", "content-type": "application/grpc"}
    assert data == (Kind.DATA, 0, 1, framed(b"abab"))


def test_a_connection_may_come_byte_by_byte() -> None:
    peer = Peer()
    rest = frames.frame(Kind.HEADERS, END_HEADERS, 1, peer.encoder.encode(HEADERS))
    for byte in rest + frames.frame(Kind.DATA, 0, 1, framed(b"x")):
        peer.send(bytes((byte,)))
    assert peer.messages == [b"x"]
    again = Connection(bytearray().extend, lambda *_: None)
    for byte in PREFACE + frames.settings({}):
        again.receive(bytes((byte,)))


def test_messages_in_any_pieces(peer: Peer) -> None:
    peer.open()
    stream = framed(b"one") + framed(b"") + framed(b"three" * 9000)
    for at in range(0, len(stream), 7001):
        peer.send(frames.frame(Kind.DATA, 0, 1, stream[at : at + 7001]))
    assert peer.messages == [b"one", b"", b"three" * 9000]


def test_padding_and_priority_are_left_out(peer: Peer) -> None:
    block = b"\x03" + bytes(5) + peer.encoder.encode(HEADERS) + bytes(3)
    peer.send(frames.frame(Kind.HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, block))
    peer.send(frames.frame(Kind.DATA, PADDED, 1, b"\x02" + framed(b"x") + bytes(2)))
    assert peer.messages == [b"x"]


def test_headers_go_on_in_continuations(peer: Peer) -> None:
    block = peer.encoder.encode([*HEADERS, ("x", "y" * 100)])
    peer.send(frames.frame(Kind.HEADERS, END_STREAM, 1, block[:9]))
    peer.send(frames.frame(Kind.CONTINUATION, 0, 1, block[9:20]), frames.frame(Kind.CONTINUATION, 4, 1, block[20:]))
    assert len(peer.calls) == peer.closed == 1
    assert peer.headers(peer.answers()[-1][3])["grpc-status"] == "0"


def test_sends_no_more_than_the_windows_allow_and_goes_on_when_they_grow(peer: Peer) -> None:
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 100}))
    peer.open()
    peer.message(b"x" * 500)
    assert len(data_of(peer.answers())) == 100
    peer.send(frames.window_update(1, 50))
    assert len(data_of(peer.answers())) == 50
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 10}))  # now 90 below zero
    peer.send(frames.window_update(1, 90))
    assert data_of(peer.answers()) == b""
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 10_000}))
    assert len(data_of(peer.answers())) == 1005 - 150


def test_the_connections_window_is_shared_by_its_streams(peer: Peer) -> None:
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 1 << 20}))
    for number in (1, 3):
        peer.open(number)
        peer.message(b"x" * 16_000, number)
        peer.message(b"x" * 16_000, number)
    assert len(data_of(peer.answers())) == frames.DEFAULT_WINDOW
    peer.send(frames.window_update(0, 1 << 20))
    assert len(data_of(peer.answers())) == 4 * 32_005 - frames.DEFAULT_WINDOW


def test_a_full_transport_holds_data_back(peer: Peer) -> None:
    peer.open()
    peer.connection.paused = True
    peer.message(b"x")
    assert data_of(peer.answers()) == b""
    peer.connection.resume()
    assert data_of(peer.answers()) == framed(b"xx")


def test_what_is_read_may_be_sent_again(peer: Peer) -> None:
    peer.open()
    grown = {0: 0, 1: 0}
    for _ in range(100):
        peer.message(b"x" * 16_000)
        for kind, _, stream, payload in peer.answers():
            if kind is Kind.WINDOW_UPDATE:
                grown[stream] += int.from_bytes(payload)
    assert grown[0] == grown[1] >= 100 * 16_005 - RECEIVE_WINDOW // 2


def test_the_status_follows_what_waits(peer: Peer) -> None:
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 3}))
    peer.open()
    peer.message(b"x")
    peer.calls[0].end(Status.UNAVAILABLE, "ü is\n100% over")
    peer.answers()
    peer.send(frames.window_update(1, 100))
    *data, trailers, reset = peer.answers()
    assert data_of(data)[-2:] == b"xx"
    assert trailers[1] == END_HEADERS | END_STREAM
    assert peer.headers(trailers[3]) == {"grpc-status": "14", "grpc-message": "%C3%BC is%0A100%25 over"}
    assert reset[0] is Kind.RST_STREAM
    assert peer.closed == 1
    peer.calls[0].send(b"too late")
    assert peer.answers() == []


def test_other_methods_content_and_compression_are_refused(peer: Peer) -> None:
    peer.open(1, [(":path", "/other"), ("content-type", "application/grpc")])
    assert peer.headers(peer.answers()[0][3])["grpc-status"] == "12"
    peer.open(3, [(":path", "/echo"), ("content-type", "text/html")])
    assert peer.headers(peer.answers()[0][3]) == {":status": "415"}
    peer.open(5)
    peer.send(frames.frame(Kind.DATA, 0, 5, b"\x01" + framed(b"x")[1:]))
    assert peer.headers(peer.answers()[0][3])["grpc-status"] == "12"
    peer.open(7)
    peer.send(frames.frame(Kind.DATA, 0, 7, b"\0\xff\xff\xff\xff"))
    assert peer.headers(peer.answers()[0][3])["grpc-status"] == "8"
    assert peer.connection.streams == {}


@pytest.mark.parametrize("how", ["reset", "lost"])
def test_a_call_that_breaks_off_is_closed_once(peer: Peer, how: str) -> None:
    peer.open()
    if how == "reset":
        peer.send(frames.frame(Kind.RST_STREAM, 0, 1, bytes(4)))
    peer.connection.lost()
    assert peer.closed == 1
    peer.answers()
    peer.calls[0].send(b"x")
    peer.calls[0].end(Status.OK)
    assert peer.answers() == []


def test_pings_are_answered_and_settings_acknowledged(peer: Peer) -> None:
    peer.send(frames.frame(Kind.PING, 0, 0, b"12345678"), frames.settings({}), frames.frame(Kind.SETTINGS, ACK, 0))
    assert peer.answers() == [(Kind.PING, ACK, 0, b"12345678"), (Kind.SETTINGS, ACK, 0, b"")]


def test_frames_of_streams_that_are_over_and_unknown_frames_are_ignored(peer: Peer) -> None:
    peer.open()
    peer.calls[0].end(Status.OK)
    peer.message(b"late")
    peer.send(frames.window_update(1, 5), frames.frame(Kind.RST_STREAM, 0, 1, bytes(4)), frames.frame(99, 0, 1, b"x"))
    peer.send(frames.frame(Kind.PRIORITY, 0, 3, bytes(5)), frames.goaway(0, Code.NO_ERROR))
    assert peer.messages == []


def test_streams_that_are_too_many_or_too_late_are_refused_and_the_others_go_on(peer: Peer) -> None:
    for number in range(MAX_STREAMS):
        peer.open(2 * number + 1)
    peer.answers()
    peer.open(2 * MAX_STREAMS + 1)
    assert peer.answers() == [(Kind.RST_STREAM, 0, 2 * MAX_STREAMS + 1, Code.REFUSED_STREAM.to_bytes(4))]
    peer.send(frames.frame(Kind.RST_STREAM, 0, 3, bytes(4)))
    peer.connection.goaway()
    assert peer.answers()[0][3] == (2 * MAX_STREAMS + 1).to_bytes(4) + bytes(4)
    peer.open(2 * MAX_STREAMS + 3)
    assert peer.answers()[0][0] is Kind.RST_STREAM
    peer.message(b"x")
    assert peer.messages == [b"x"]


MISTAKES = {
    "another protocol": (b"", Code.PROTOCOL_ERROR),
    "a frame too large": (frames.header(Kind.DATA, 0, 1, 16_385), Code.FRAME_SIZE_ERROR),
    "DATA of no stream": (frames.frame(Kind.DATA, 0, 5, b"x"), Code.PROTOCOL_ERROR),
    "an even stream": (frames.frame(Kind.HEADERS, END_HEADERS, 2, b"\x82"), Code.PROTOCOL_ERROR),
    "headers that are none": (frames.frame(Kind.HEADERS, END_HEADERS, 3, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
    "CONTINUATION of nothing": (frames.frame(Kind.CONTINUATION, END_HEADERS, 3, b""), Code.PROTOCOL_ERROR),
    "headers broken off": (
        frames.frame(Kind.HEADERS, 0, 3, b"\x82") + frames.frame(Kind.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "padding without end": (frames.frame(Kind.DATA, PADDED, 1, b"\x09x"), Code.PROTOCOL_ERROR),
    "headers without end": (
        frames.frame(Kind.HEADERS, 0, 3, b"\x82") + 9 * frames.frame(Kind.CONTINUATION, 0, 3, bytes(16_000)),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a window of nothing": (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
    "a window too large": (frames.window_update(1, frames.LARGEST_WINDOW), Code.FLOW_CONTROL_ERROR),
    "settings of a stream": (frames.frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "half a setting": (frames.frame(Kind.SETTINGS, 0, 0, b"xxx"), Code.FRAME_SIZE_ERROR),
    "half a ping": (frames.frame(Kind.PING, 0, 0, b"xxx"), Code.FRAME_SIZE_ERROR),
    "a reset of no stream": (frames.frame(Kind.RST_STREAM, 0, 9, bytes(4)), Code.PROTOCOL_ERROR),
    "a promise": (frames.frame(Kind.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_the_connection_with_their_code(mistake: str) -> None:
    sent, code = MISTAKES[mistake]
    if not sent:
        with pytest.raises(ProtocolError) as caught:
            Connection(bytearray().extend, lambda *_: None).receive(b"GET / HTTP/1.1\r\n\r\n")
        assert caught.value.code is code
        return
    peer = Peer()
    peer.open()
    assert refused(peer, sent) is code


def test_data_after_the_end_of_a_stream_ends_the_connection(peer: Peer) -> None:
    peer.send(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 0}))
    peer.open()
    peer.message(b"x", flags=END_STREAM)  # answered, but not sent yet
    assert refused(peer, frames.frame(Kind.DATA, 0, 1, b"y")) is Code.STREAM_CLOSED


def test_a_client_that_asks_without_reading_is_sent_away(peer: Peer) -> None:
    peer.connection.paused = True
    with pytest.raises(ProtocolError, match="without reading"):
        for _ in range(2_000):
            peer.send(frames.frame(Kind.PING, 0, 0, bytes(8)))
