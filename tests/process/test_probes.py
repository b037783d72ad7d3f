"""The node's probes and hooks against servers that listen: what counts, and what is said of what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from mizzen.embedded.node.probes import Outcome, Prober

pytestmark = pytest.mark.process
HERE = "127.0.0.1"
CONTAINER: dict[str, Any] = {"name": "a", "ports": [{"name": "never", "containerPort": 1}]}


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    made = Prober()
    yield made
    await made.close()


async def run(argv: Sequence[str], limit: float) -> tuple[int, str]:
    if argv[0] == "slow":
        await asyncio.sleep(limit + 5)
    return (0, "fine\n") if argv[0] == "good" else (1, "it is broken\n")


async def attempt(prober: Prober, probe: dict[str, Any]) -> Outcome:
    return await prober.attempt(probe, CONTAINER, HERE, run)


@pytest.fixture
async def page() -> AsyncIterator[int]:
    """The port of a server whose path is the status it answers; of who asks as a probe does."""

    over = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await over.wait()
            return web.Response()
        assert request.headers["User-Agent"].startswith("kube-probe/") and request.headers["Host"] == "shop"
        status = int(request.path.strip("/"))
        return web.Response(status=status, text="x" * 9, headers={"Location": "/200"})

    server = web.Application()
    server.router.add_get("/{status}", answer)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HERE, 0)
    await site.start()
    yield runner.addresses[0][1]
    over.set()
    await runner.cleanup()


async def test_http(prober: Prober, page: int) -> None:
    def asked(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": page, "httpHeaders": [{"name": "Host", "value": "shop"}]}}

    assert [(await attempt(prober, asked(path))).ok for path in ("/200", "302", "/399", "/400")] == [True] * 3 + [False]
    assert (await attempt(prober, asked("/503"))).message == "HTTP probe failed with statuscode: 503 xxxxxxxxx"
    slow = {**asked("/slow"), "timeoutSeconds": 0.05}
    assert (await attempt(prober, slow)).message == "timed out after 0.05s"


async def test_tcp_and_ports_that_are_not_there(prober: Prober, page: int) -> None:
    assert (await attempt(prober, {"tcpSocket": {"port": page}})).ok
    assert "Connect call failed" in (await attempt(prober, {"tcpSocket": {"port": "never"}})).message
    assert "no port named 'other'" in (await attempt(prober, {"httpGet": {"port": "other"}})).message


async def test_commands(prober: Prober) -> None:
    assert (await attempt(prober, {"exec": {"command": ["good"]}})).ok
    assert await attempt(prober, {"exec": {"command": ["bad"]}}) == Outcome(False, "it is broken")
    assert not (await attempt(prober, {"exec": {"command": ["slow"]}, "timeoutSeconds": 0.05})).ok


async def test_grpc(prober: Prober) -> None:
    long = "s" * 200

    async def check(request: bytes, context: Any) -> bytes:
        asked = request[2:].decode() if len(request) < 130 else request[3:].decode()
        if asked == "unheard":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return {"": b"\x08\x01", long: b"\x08\x01", "off": b"\x08\x02", "torn": b"\xff"}[asked]

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    try:
        said = {
            name: await attempt(prober, {"grpc": {"port": port, "service": name}, "timeoutSeconds": 5})
            for name in ("", long, "off", "unheard", "torn")
        }
    finally:
        await server.stop(None)
    assert said[""].ok and said[long].ok
    assert said["off"].message == 'service unhealthy (responded with "NOT_SERVING")'
    assert said["unheard"].message == "service unhealthy: NOT_FOUND no such service"
    assert not said["torn"].ok
    assert not (await attempt(prober, {"grpc": {"port": port}})).ok
