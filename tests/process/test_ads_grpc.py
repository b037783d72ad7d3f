"""gRPC's own client on our discovery service: HTTP/2, mutual TLS and connections' life as another implementation sees
them."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from cryptography import x509

from envoys import NODE, Authority, until
from mizzen.ads.connection import Patience
from mizzen.ads.server import DELTA, STATE_OF_THE_WORLD, AdsServer, Refused, Serving, Stream
from mizzen.ads.store import Store
from mizzen.ads.tls import mutual_tls
from mizzen.envoy.messages import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from mizzen.envoy.resources import CLUSTER, Resource, Resources

pytestmark = [
    pytest.mark.process,
    # gRPC's channels dial again from a thread of their own, up to the moment in which a test's loop is closed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ON_UVLOOP = "MIZZEN_TEST_UVLOOP"
HOST = "istiod.istio-system.svc"
PROXY = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/web")
LARGE: Resources = {CLUSTER: {str(one): Resource.of(str(one), bytes([one]) * 1_000_000) for one in range(8)}}


@dataclass
class Fleet:
    streams: list[Stream] = field(default_factory=list)
    reason: str = ""

    async def join(self, stream: Stream) -> None:
        if self.reason:
            raise Refused(self.reason)
        stream.publish((LARGE,))
        self.streams.append(stream)

    def acknowledged(self, stream: Stream) -> None: ...

    def leave(self, stream: Stream) -> None:
        self.streams.remove(stream)


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.fleet = Authority(), Fleet()
        self.port = 0
        self.renew()

    def renew(self) -> None:
        self.shown = (*self.authority.issue(x509.DNSName(HOST)), self.authority.root)

    @asynccontextmanager
    async def serving(self, port: int = 0, **patience: float) -> AsyncIterator[AdsServer]:
        serving = Serving("127.0.0.1", port, mutual_tls(lambda: self.shown), Patience(**patience))
        server = AdsServer(self.fleet, Store(), serving)
        await server.start()
        self.port = server.port
        try:
            yield server
        finally:
            await server.stop()
            await asyncio.sleep(0.05)  # refused handshakes close their sockets

    def channel(self, *options: tuple[str, Any], authority: Authority | None = None) -> grpc.aio.Channel:
        key, chain = (authority or self.authority).issue(PROXY)
        credentials = grpc.ssl_channel_credentials(self.authority.root, key, chain)
        every = [("grpc.ssl_target_name_override", HOST), ("grpc.max_receive_message_length", -1), *options]
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=every)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TLS, and nothing after it."""
        (self.folder / "pem").write_bytes(b"".join(self.authority.issue(PROXY)))
        context = ssl.create_default_context(cadata=self.authority.root.decode())
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.folder / "pem")
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=HOST)


@pytest.fixture(autouse=True)
async def nothing_left_for_others() -> AsyncIterator[None]:
    """What a redialling channel left open is found here, and not in somebody else's test."""
    print(type(asyncio.get_running_loop()))
    yield
    gc.collect()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def delta(channel: grpc.aio.Channel) -> Any:
    return channel.stream_stream(DELTA, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString)(
        wait_for_ready=True
    )


def asked(**more: Any) -> Any:
    return DeltaDiscoveryRequest(type_url=CLUSTER, node={"id": NODE}, **more)


if os.environ.get(ON_UVLOOP):
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    return caught.value.code(), caught.value.details() or ""


def test_the_loop_that_istiod_runs_on() -> None:
    """The same tests on uvloop, in a process of their own: gRPC keeps one poller for all loops of a process."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-sk", "not the_loop", __file__]
    done = subprocess.run(command, env={**os.environ, ON_UVLOOP: "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "uvloop.Loop" in done.stdout


async def test_many_streams_of_one_connection_get_large_responses_through_small_windows(world: World) -> None:
    small = [("grpc.http2.lookahead_bytes", 65_535), ("grpc.http2.bdp_probe", 0)]
    async with world.serving(), world.channel(*small) as channel:

        async def proxy() -> None:
            call = delta(channel)
            await call.write(asked())
            response = await call.read()
            assert {one.name: one.resource.value for one in response.resources} == {
                name: one.body for name, one in LARGE[CLUSTER].items()
            }
            await call.write(DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=response.nonce))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

        await asyncio.gather(*(proxy() for _ in range(8)))
        assert world.fleet.streams == []


async def test_large_requests_are_read_and_nothing_held_is_sent_again(world: World) -> None:
    held = {name: one.version for name, one in LARGE[CLUSTER].items()}
    gone = {f"gone-{number}-{'x' * 200}": "1" for number in range(20_000)}  # five megabytes
    async with world.serving(), world.channel() as channel:
        call = delta(channel)
        await call.write(asked(initial_resource_versions={**held, **gone}))
        response = await call.read()
        assert not response.resources
        assert set(response.removed_resources) == gone.keys()


async def test_the_state_of_the_world(world: World) -> None:
    async with world.serving(), world.channel() as channel:
        call = channel.stream_stream(
            STATE_OF_THE_WORLD, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )()
        await call.write(DiscoveryRequest(type_url=CLUSTER, node={"id": NODE}))
        assert len((await call.read()).resources) == len(LARGE[CLUSTER])
        call.cancel()
        await until(lambda: not world.fleet.streams)


async def test_statuses_say_why_a_call_ends(world: World) -> None:
    async with world.serving() as server, world.channel() as channel:
        garbled = channel.stream_stream(DELTA)()
        await garbled.write(b"\xff\xff")
        assert (await failure(garbled))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert (await failure(channel.stream_stream("/other.Service/Method")()))[0] is grpc.StatusCode.UNIMPLEMENTED
        world.fleet.reason = "no Pod “web”"
        refused = delta(channel)
        await refused.write(asked())
        assert await failure(refused) == (grpc.StatusCode.PERMISSION_DENIED, "no Pod “web”")
        world.fleet.reason = ""
        call = delta(channel)
        await call.write(asked())
        await call.read()
        await server.stop()
        assert await failure(call) == (grpc.StatusCode.UNAVAILABLE, "the control plane stops")


async def test_who_has_no_certificate_of_ours_is_not_listened_to(world: World) -> None:
    async with world.serving(), world.channel(authority=Authority()) as channel:
        call = channel.stream_stream(DELTA)()
        assert (await failure(call))[0] is grpc.StatusCode.UNAVAILABLE
        assert world.fleet.streams == []


async def test_a_new_certificate_is_shown_from_the_next_handshake_on(world: World) -> None:
    async def shown() -> bytes:
        _, writer = await world.dial()
        writer.close()
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async with world.serving():
        first = await shown()
        assert await shown() == first
        world.renew()
        assert await shown() != first


async def test_old_connections_end_and_proxies_come_back_with_their_newest_certificate(world: World) -> None:
    async with world.serving(age=0.3, grace=0.1), world.channel() as channel:
        call = delta(channel)
        await call.write(asked())
        await call.read()
        assert await failure(call) == (grpc.StatusCode.UNAVAILABLE, "the connection is old")
        again = delta(channel)
        await again.write(asked())
        assert len((await again.read()).resources) == len(LARGE[CLUSTER])


async def test_a_silent_peer_is_asked_and_one_that_answers_stays(world: World) -> None:
    async with world.serving(silence=0.05, answer=0.5), world.channel() as channel:
        call = delta(channel)
        await call.write(asked())
        response = await call.read()
        await asyncio.sleep(1)  # several questions and answers
        await call.write(DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=response.nonce))
        await until(lambda: world.fleet.streams[0].session.settled)


async def test_a_dead_peer_is_given_up(world: World) -> None:
    async with world.serving(silence=0.05, answer=0.1):
        reader, writer = await world.dial()
        assert await asyncio.wait_for(reader.read(), 5) != b""  # says hello, asks, and hangs up
        writer.close()


async def test_a_malformed_handshake_is_told_so_and_hurts_nobody(world: World) -> None:
    async with world.serving(), world.channel() as channel:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(b"\x16\x03\x01\x00\x05hello")
        alert = await asyncio.wait_for(reader.read(), 5)
        assert alert[:1] == b"\x15"  # the record of an alert
        writer.close()
        call = delta(channel)
        await call.write(asked())
        assert len((await call.read()).resources) == len(LARGE[CLUSTER])


async def test_a_handshake_that_does_not_go_on_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mizzen.ads.server.HANDSHAKE_SECONDS", 0.1)
    async with world.serving():
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_peer_that_does_not_speak_http2_is_told_so(world: World) -> None:
    async with world.serving():
        reader, writer = await world.dial()
        writer.write(b"not HTTP/2, whatever the names that were agreed on")
        assert b"not an HTTP/2 client" in await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_clients_may_ask_whether_we_live(world: World) -> None:
    often = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 200),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with world.serving(), world.channel(*often) as channel:
        call = delta(channel)
        await call.write(asked())
        response = await call.read()
        await asyncio.sleep(0.5)
        await call.write(DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=response.nonce))
        await until(lambda: world.fleet.streams[0].session.settled)
