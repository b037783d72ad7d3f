"""TLS of several connections through the buffers that they share."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from envoys import Authority
from mizzen.ads.secured import Buffers, Secured
from mizzen.ads.tls import mutual_tls

HOST = "istiod.istio-system.svc"


class Socket(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


class Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


class Peer:
    """A client, and the server's end of its connection."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, buffers: Buffers) -> None:
        self.buffers, self.socket, self.heard = buffers, Socket(), Heard()
        self.secured = Secured(server, self.heard, 60.0, buffers)
        self.secured.connection_made(self.socket)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname=HOST)

    def give(self, data: bytes) -> None:
        self.secured.get_buffer(-1)[: len(data)] = data
        self.secured.buffer_updated(len(data))
        assert not self.buffers.incoming.pending
        assert not self.buffers.outgoing.pending

    def take(self) -> None:
        self.incoming.write(self.socket.written)
        self.socket.written.clear()

    def shake_hands(self) -> None:
        for _ in range(2):
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.give(self.outgoing.read())
            self.take()

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority()
    shown = (*authority.issue(x509.DNSName(HOST)), authority.root)
    (tmp_path / "pem").write_bytes(b"".join(authority.issue(x509.UniformResourceIdentifier("spiffe://d/ns/a/sa/b"))))
    client = ssl.create_default_context(cadata=authority.root.decode())
    client.set_alpn_protocols(["h2"])
    client.load_cert_chain(tmp_path / "pem")
    return mutual_tls(lambda: shown), client


async def test_halves_of_records_are_never_mistaken_for_those_of_others(contexts) -> None:
    buffers = Buffers()
    peers = [Peer(*contexts, buffers) for _ in range(2)]
    for peer in peers:
        peer.shake_hands()
    sent = [b"a" * 3000, b"b" * 3000]
    streams = [peer.encrypted(data) for peer, data in zip(peers, sent, strict=True)]
    for at in range(0, max(map(len, streams)), 101):
        for peer, stream in zip(peers, streams, strict=True):
            peer.give(stream[at : at + 101])
    assert [peer.heard.data for peer in peers] == sent
    for peer, said in zip(peers, (b"one" * 20_000, b"two" * 20_000), strict=True):
        peer.secured.write(said)
        assert not buffers.outgoing.pending
        peer.take()
        found = bytearray()
        while len(found) < len(said):
            found += peer.tls.read(1 << 14)
        assert found == said


async def test_what_a_refused_peer_said_is_left_to_nobody(contexts) -> None:
    buffers = Buffers()
    stranger, peer = Peer(*contexts, buffers), Peer(*contexts, buffers)
    stranger.give(b"GET / HTTP/1.1\r\n\r\n" * 20)
    assert stranger.socket.closed
    peer.shake_hands()
    peer.give(peer.encrypted(b"hello"))
    assert peer.heard.data == b"hello"
