"""exec and port-forward by real kubectl of three generations, against a node made of asyncio.

kubectl 1.29 speaks SPDY, 1.32 and 1.33 speak WebSocket; port-forward carries SPDY in either.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, web

from mizzen.embedded.apiserver.streams import channels, serve_exec, serve_portforward
from mizzen.embedded.apiserver.streams.port_forward import WAITING_MESSAGES
from mizzen.kube.api import ApiError

BIN = Path("/usr/lib/google-cloud-sdk/bin")
KUBECTLS = sorted(BIN.glob("kubectl.1.*")) if BIN.exists() else []
TRIED = [path for path in KUBECTLS if path.suffix in (".27", ".29", ".32", ".33")]
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "1"},
    "spec": {"containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 80}]}]},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


def status(code: int) -> bytes:
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    cause = {"reason": "ExitCode", "message": str(code)}
    return json.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [cause]},
        }
    ).encode()


@dataclass
class Node:
    """A node that runs commands on this machine and forwards to an echoing server of its own."""

    port: int = 0
    opened: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    sizes: list[Any] = field(default_factory=list)
    resized: asyncio.Event = field(default_factory=asyncio.Event)
    session: aiohttp.ClientSession | None = None

    async def open(self, path: str, parameters: Sequence[tuple[str, str]]) -> ClientWebSocketResponse:
        self.opened.append((path, list(parameters)))
        assert self.session is not None
        if dict(parameters).get("command") == "missing":
            raise ApiError(400, "BadRequest", "no such command on this node")
        url = f"http://127.0.0.1:{self.port}{path}"
        return await self.session.ws_connect(url, params=parameters, protocols=(channels.V5,), max_msg_size=0)

    async def exec(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=(channels.V5,), max_msg_size=0)
        await ws.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *request.query.getall("command"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        feeding = asyncio.create_task(self.feed(ws, process))
        await asyncio.gather(self.copy(ws, 1, process.stdout), self.copy(ws, 2, process.stderr))
        await ws.send_bytes(channels.message(channels.ERROR, status(await process.wait())))
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await ws.close()
        return ws

    async def copy(self, ws: web.WebSocketResponse, channel: int, pipe: Any) -> None:
        while data := await pipe.read(8192):
            await ws.send_bytes(channels.message(channel, data))

    async def feed(self, ws: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        async for message in ws:
            channel, data = channels.parse(message.data)
            if channel == channels.STDIN:
                process.stdin.write(data)
                await process.stdin.drain()
            elif (channel, data) == (channels.CLOSE, b"\0"):
                process.stdin.close()
            elif channel == channels.RESIZE:
                self.sizes.append(json.loads(data))
                self.resized.set()
        process.stdin.close()  # whoever is gone types no more

    async def forward(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        if request.query["port"] != "80":
            await ws.send_str(f"nothing listens on port {request.query['port']}")
        else:
            async for message in ws:
                if message.type is aiohttp.WSMsgType.BINARY and message.data:
                    body = b"you sent " + message.data.split(b"\r\n")[0]
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    await ws.send_bytes(head + body)
        await ws.close()
        return ws


def discovery() -> dict[str, Any]:
    pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [pods]}


def answer(document: Any) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(document)

    return handler


async def run_server(routes: list[web.RouteDef]) -> tuple[web.AppRunner, int]:
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    return runner, site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]


@dataclass
class World:
    node: Node
    port: int
    home: Path

    def arguments(self, kubectl: Path, *arguments: str) -> list[str]:
        return [str(kubectl), "--server", f"http://127.0.0.1:{self.port}", *arguments]

    async def start(self, kubectl: Path, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.arguments(kubectl, *arguments),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"HOME": str(self.home), "KUBECONFIG": "/dev/null"},
        )

    async def kubectl(self, kubectl: Path, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        process = await self.start(kubectl, *arguments)
        try:
            async with asyncio.timeout(20):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, out, err


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    node = Node()
    node_runner, node.port = await run_server(
        [web.get("/exec/{tail:.*}", node.exec), web.get("/portforward/{tail:.*}", node.forward)]
    )
    node.session = aiohttp.ClientSession()

    async def on_exec(request: web.Request) -> web.StreamResponse:
        try:
            return await serve_exec(request, node.open, "/exec/default/web/app")
        except ApiError as error:
            document = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": error.message,
                "reason": error.reason,
                "code": error.code,
            }
            return web.json_response(document, status=error.code)

    async def on_forward(request: web.Request) -> web.StreamResponse:
        return await serve_portforward(request, node.open, "/portforward/default/web")

    pod = "/api/v1/namespaces/default/pods/web"
    runner, port = await run_server(
        [
            web.get("/api", answer({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]})),
            web.get("/apis", answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
            web.get("/api/v1", answer(discovery())),
            web.get(pod, answer(POD)),
            web.route("*", f"{pod}/exec", on_exec),
            web.route("*", f"{pod}/portforward", on_forward),
        ]
    )
    yield World(node, port, tmp_path)
    await node.session.close()
    await runner.cleanup()
    await node_runner.cleanup()


kubectls = pytest.mark.parametrize("kubectl", TRIED or [None], ids=lambda path: path.suffix[1:] if path else "none")
pytestmark = [pytest.mark.process, pytest.mark.skipif(not TRIED, reason="no kubectl of several versions here")]


@kubectls
async def test_output_errors_and_exit_code(world: World, kubectl: Path) -> None:
    code, out, err = await world.kubectl(kubectl, "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, out, err) == (3, b"out\n", b"err\ncommand terminated with exit code 3\n")
    path, parameters = world.node.opened[0]
    assert path == "/exec/default/web/app"
    assert ("command", "sh") in parameters
    assert ("stdout", "true") in parameters


@kubectls
async def test_standard_input_is_carried_whole_and_closed(world: World, kubectl: Path) -> None:
    data = b"0123456789abcdef" * 200_000
    code, out, err = await world.kubectl(kubectl, "exec", "-i", "web", "--", "cat", stdin=data)
    assert (code, err) == (0, b"")
    assert out == data


@kubectls
async def test_a_refusal_of_the_node_reaches_the_user(world: World, kubectl: Path) -> None:
    code, _, err = await world.kubectl(kubectl, "exec", "web", "--", "missing")
    assert code == 1
    assert b"no such command on this node" in err


@kubectls
async def test_port_forward(world: World, kubectl: Path) -> None:
    process = await world.start(kubectl, "port-forward", "--address", "127.0.0.1", "web", ":80", ":81")
    try:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        good, bad = (int(line.split(":")[1].split(" ")[0]) for line in lines)
        for number in range(3):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{good}/{number}") as reply:
                assert await reply.text() == f"you sent GET /{number} HTTP/1.1"
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{bad}/"):
                pass
    finally:
        with contextlib.suppress(ProcessLookupError):  # an error ends kubectl
            process.terminate()
        _, err = await process.communicate()
    assert b"nothing listens on port 81" in err


async def test_the_python_clients_port_forward(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}/api/v1/namespaces/default/pods/web/portforward?ports=80,81"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=(channels.V4,)) as ws:
        first = {(await ws.receive()).data for _ in range(4)}
        assert first == {b"\0\x50\0", b"\1\x50\0", b"\2\x51\0", b"\3\x51\0"}
        assert (await ws.receive()).data == b"\3nothing listens on port 81"
        for _ in range(2 * WAITING_MESSAGES):
            await ws.send_bytes(b"\2nobody reads this")
        await ws.send_bytes(b"\0GET / HTTP/1.1\r\n\r\n")
        assert (await ws.receive()).data.endswith(b"you sent GET / HTTP/1.1")


async def test_version_four_clients_see_no_close_messages(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}/api/v1/namespaces/default/pods/web/exec?command=echo&command=hi&stdout=1"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=(channels.V4,)) as ws:
        messages = [message.data async for message in ws]
    assert ws.protocol == channels.V4
    assert messages == [b"\1hi\n", b"\3" + status(0)]


EXEC = "/api/v1/namespaces/default/pods/web/exec?stdin=1&stdout=1&command="
READS_A_LINE = f"{EXEC}head&command=-n1"


@pytest.mark.parametrize(
    ("offered", "typed", "heard", "end"),
    [
        ((channels.V5,), "\0a line\n", b"\1a line\n", b"\3" + status(0)),
        ((), "\0a line\n", b"\1a line\n", None),
        ((channels.V1,), b"\0a line\n", b"\1a line\n", None),
        ((channels.V4_BASE64,), "0YSBsaW5lCg==", "1YSBsaW5lCg==", "3" + base64.b64encode(status(0)).decode()),
        ((channels.V1_BASE64,), "0YSBsaW5lCg==", "1YSBsaW5lCg==", None),
    ],
    ids=["text", "none", "the first", "base64", "the first in base64"],
)
async def test_every_websocket_protocol_of_kubelets(
    world: World, offered: tuple[str, ...], typed: str | bytes, heard: str | bytes, end: str | bytes | None
) -> None:
    """Python's client writes text messages; kr8s and web pages offer older protocols, or none."""
    url = f"http://127.0.0.1:{world.port}{READS_A_LINE}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=offered) as ws:
        assert ws.protocol == (offered[0] if offered else None)
        await (ws.send_str(typed) if isinstance(typed, str) else ws.send_bytes(typed))
        messages = [message.data async for message in ws]
    assert messages == [heard, *filter(None, [end])]


async def test_in_the_first_protocol_a_failure_is_told_in_words(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}{EXEC}false"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        messages = [message.data async for message in ws]
    assert messages == [b"\3command terminated with non-zero exit code: exit status 1"]


async def test_what_is_no_base64_ends_the_connection(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}{EXEC}cat"
    for nonsense in ("0no base64!", "x", "é"):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=(channels.V4_BASE64,)) as ws,
        ):
            await ws.send_str(nonsense)
            async with asyncio.timeout(10):
                assert [message.data async for message in ws] == []


async def test_port_forward_without_a_protocol(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}/api/v1/namespaces/default/pods/web/portforward?ports=80"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        assert {(await ws.receive()).data for _ in range(2)} == {b"\0\x50\0", b"\1\x50\0"}
        await ws.send_str("\0GET / HTTP/1.1\r\n\r\n")
        assert (await ws.receive()).data.endswith(b"you sent GET / HTTP/1.1")


async def test_a_client_without_a_known_protocol_is_refused(world: World) -> None:
    url = f"http://127.0.0.1:{world.port}/api/v1/namespaces/default/pods/web/exec?command=x"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(url, protocols=("chat",))
    assert error.value.status == 400


@kubectls
async def test_a_terminal_tells_its_size(world: World, kubectl: Path) -> None:
    """kubectl asks for a terminal only if it has one itself."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *world.arguments(kubectl, "exec", "-it", "web", "--", "head", "-n1"),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={"HOME": str(world.home), "KUBECONFIG": "/dev/null", "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    try:
        async with asyncio.timeout(20):
            await world.node.resized.wait()
            os.write(master, b"typed\n")
            await process.wait()
            assert b"typed" in os.read(master, 100)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(master)
    assert ("tty", "true") in world.node.opened[0][1]
    assert world.node.sizes[0] == {"Width": 80, "Height": 24}
