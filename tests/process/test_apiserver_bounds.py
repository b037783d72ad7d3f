"""What a client can ask of the API server at once, and how long it may take: its HTTP shell, with small bounds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mizzen.embedded.apiserver import http_server
from mizzen.embedded.apiserver.application import open_application
from mizzen.embedded.apiserver.connections import Connections
from mizzen.embedded.apiserver.http_server import HttpServer
from mizzen.embedded.apiserver.local import LocalApi
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.wire import LOOPBACK
from mizzen.kube.api import WELL_KNOWN

pytestmark = pytest.mark.process
CONFIGS = "/api/v1/namespaces/default/configmaps"
HEAD = f"POST {CONFIGS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {{length}}\r\n\r\n"


@dataclass
class Served:
    port: int
    api: LocalApi
    session: aiohttp.ClientSession

    def get(self, path: str) -> Any:
        return self.session.get(f"http://127.0.0.1:{self.port}{path}")

    async def begin(self, body: bytes, length: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A create of which only so much is sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(HEAD.format(length=len(body) if length is None else length).encode() + body)
        await writer.drain()
        return reader, writer

    async def fill(self, count: int, size: int) -> None:
        for number in range(count):
            obj = {"metadata": {"name": f"large-{number}"}, "data": {"x": "x" * size}}
            await self.api.create(WELL_KNOWN.configmaps, obj, "default")


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    for name, value in {
        "REQUESTS_AT_ONCE": 2,
        "WATCHES_AT_ONCE": 2,
        "BODY_SECONDS": 0.3,
        "STALLED_SECONDS": 0.3,
    }.items():
        monkeypatch.setattr(http_server, name, value)
    application = await open_application(tmp_path, ensure_pki(tmp_path / "pki"))
    monkeypatch.setattr(application.authenticator, "user", lambda peer, authorization: LOOPBACK)
    connections = Connections(tmp_path / "nowhere")
    server = HttpServer(application.core, application.authenticator, connections.connect)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start([listener], None)
    async with aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}) as session:
        yield Served(listener.getsockname()[1], application.api, session)
    await server.close()
    await connections.close()
    await application.close()


async def status_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    async with asyncio.timeout(5):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), headers, json.loads(await reader.readexactly(int(headers["content-length"])))


def config(name: str) -> bytes:
    return json.dumps({"metadata": {"name": name}}).encode()


async def test_who_comes_when_all_are_busy_is_told_to_come_again(served: Served) -> None:
    bodies = config("a"), config("b")
    waiting = [await served.begin(body[:-1], len(body)) for body in bodies]
    async with asyncio.timeout(5):
        while True:
            async with served.get("/readyz") as answer:
                told = await answer.json(content_type=None) if answer.status != 200 else None
            if told:
                break
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert (told["kind"], told["reason"]) == ("Status", "TooManyRequests")
    for (reader, writer), body in zip(waiting, bodies, strict=True):
        writer.write(body[-1:])
        assert (await status_of(reader))[0] == 201, "who was first is served"
        writer.close()
    async with served.get("/readyz") as answer:
        assert answer.status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.1)
    reader, writer = await served.begin(b'{"metadata"', 5000)
    code, _, told = await status_of(reader)
    assert (code, told["reason"]) == (408, "Timeout")
    writer.close()


async def test_a_body_that_is_too_large_is_refused_before_it_comes(served: Served) -> None:
    reader, writer = await served.begin(b"", 3 * 1024 * 1024 + 1)
    code, _, told = await status_of(reader)
    assert (code, told["reason"]) == (413, "RequestEntityTooLarge")
    writer.close()


async def test_a_body_of_no_known_size_is_read_up_to_the_bound(served: Served) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 65536

    url = f"http://127.0.0.1:{served.port}{CONFIGS}"
    try:
        async with served.session.post(url, data=parts(), headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 413
    except aiohttp.ClientOSError:
        pass  # it was closed while the rest was being sent


async def test_more_watches_than_there_may_be_are_refused(served: Served) -> None:
    watch = f"{CONFIGS}?watch=true"
    async with served.get(watch), served.get(watch), served.get(watch) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    async with asyncio.timeout(5):
        while True:
            async with served.get(f"{CONFIGS}?watch=true&timeoutSeconds=1") as answer:
                if answer.status == 200:
                    break


async def test_a_watcher_that_does_not_read_is_cut_off_and_the_others_are_not(served: Served) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", served.port))
    slow.sendall(f"GET {CONFIGS}?watch=true HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    async with served.get(f"{CONFIGS}?watch=true") as quick:
        assert quick.status == 200
        filling = asyncio.create_task(served.fill(12, 900_000))
        size = 0
        async with asyncio.timeout(10):
            async for chunk in quick.content.iter_any():
                size += len(chunk)
                if size > 12 * 900_000:
                    break
        await filling
    await asyncio.sleep(0.5)
    read = await asyncio.to_thread(drained, slow)
    slow.close()
    assert read < 12 * 900_000, "it was cut off before it had all"


async def test_a_long_answer_comes_whole_and_is_not_kept_for_who_does_not_read_it(served: Served) -> None:
    await served.fill(12, 900_000)
    async with served.get(CONFIGS) as answer:
        body = await answer.read()
    assert len(json.loads(body)["items"]) == 12 and int(answer.headers["Content-Length"]) == len(body)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", served.port))
    slow.sendall(f"GET {CONFIGS} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await asyncio.sleep(0.5)
    read = await asyncio.to_thread(drained, slow)
    slow.close()
    assert read < len(body)


def drained(connection: socket.socket) -> int:
    """What still comes until the end."""
    connection.settimeout(5)
    total = 0
    try:
        while part := connection.recv(1 << 20):
            total += len(part)
    except ConnectionResetError:
        pass
    return total
