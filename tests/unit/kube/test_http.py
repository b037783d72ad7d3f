"""HttpApi against a server that plays the API's side of the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mizzen.kube import api as kube
from mizzen.kube.config import FixedHeaders, Target
from mizzen.kube.http import HttpApi
from mizzen.kube.streams import logs, port_forward

PODS = kube.WELL_KNOWN.pods
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request with `answer` and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = self.empty
        self.seen: list[tuple[str, str, dict[str, str], Any, str]] = []

    async def empty(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        decoded = msgspec.json.decode(body) if body else None
        self.seen.append((request.method, request.path, dict(request.query), decoded, request.content_type))
        return await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, HttpApi]]:
    played = Server()
    application = web.Application()
    application.router.add_route("*", "/{any:.*}", played.receive)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with HttpApi(
        Target(f"http://127.0.0.1:{port}", credentials=FixedHeaders({"Authorization": "Bearer t"}))
    ) as api:
        yield played, api
    await runner.cleanup()


def answering(status: int, document: Any) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(document, status=status)

    return answer


async def test_compressed_answers_are_asked_for_unless_the_kubeconfig_says_no(
    server: tuple[Server, HttpApi],
) -> None:
    played, api = server

    async def told(request: web.Request) -> web.StreamResponse:
        return web.json_response({"accepts": request.headers["Accept-Encoding"]})

    played.answer = told
    assert "gzip" in (await api.raw("GET", "/"))["accepts"]
    async with HttpApi(replace(api.target, compression=False)) as plain:
        assert (await plain.raw("GET", "/"))["accepts"] == "identity"


async def test_list_fills_in_the_kind_that_servers_leave_out(server: tuple[Server, HttpApi]) -> None:
    played, api = server
    metadata = {"resourceVersion": "7", "continue": "more"}
    played.answer = answering(200, {"kind": "PodList", "metadata": metadata, "items": [{"metadata": {"name": "a"}}]})
    listed = await api.list(PODS, "shop", kube.Selector(labels="app=x,v in (1,2)", fields="spec.nodeName=n"), limit=5)
    assert listed.items == [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}]
    assert (listed.resource_version, listed.continue_token) == ("7", "more")
    query = {"labelSelector": "app=x,v in (1,2)", "fieldSelector": "spec.nodeName=n", "limit": "5"}
    assert played.seen[0][:3] == ("GET", "/api/v1/namespaces/shop/pods", query)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (404, "NotFound", kube.NotFound),
        (409, "AlreadyExists", kube.AlreadyExists),
        (409, "Conflict", kube.Conflict),
        (410, "Expired", kube.Expired),
        (422, "Invalid", kube.ApiError),
    ],
)
async def test_errors(server: tuple[Server, HttpApi], code: int, reason: str, expected: type[kube.ApiError]) -> None:
    played, api = server
    played.answer = answering(
        code, {"kind": "Status", "code": code, "reason": reason, "message": "no", "details": {"x": 1}}
    )
    with pytest.raises(kube.ApiError) as caught:
        await api.get(PODS, "a", "shop")
    assert type(caught.value) is expected
    assert (caught.value.code, caught.value.reason, caught.value.message) == (code, reason, "no")
    assert caught.value.status["details"] == {"x": 1}


async def test_an_error_that_is_no_status_keeps_its_text(server: tuple[Server, HttpApi]) -> None:
    played, api = server

    async def bad_gateway(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="bad gateway")

    played.answer = bad_gateway
    with pytest.raises(kube.ApiError, match="GET /version: bad gateway") as caught:
        await api.raw("GET", "/version")
    assert caught.value.code == 502


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("json", "application/json-patch+json"),
        ("merge", "application/merge-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
        ("apply", "application/apply-patch+yaml"),
    ],
)
async def test_patch(server: tuple[Server, HttpApi], kind: kube.PatchType, content_type: str) -> None:
    played, api = server
    options = kube.WriteOptions(manager="me", dry_run=True, force=True)
    await api.patch(PODS, "a", {"x": 1}, "shop", type=kind, subresource="status", options=options)
    method, path, query, body, sent = played.seen[0]
    assert (method, path, body, sent) == ("PATCH", "/api/v1/namespaces/shop/pods/a/status", {"x": 1}, content_type)
    assert query == {"fieldManager": "me", "dryRun": "All"} | ({"force": "true"} if kind == "apply" else {})


async def test_delete_options(server: tuple[Server, HttpApi]) -> None:
    played, api = server
    await api.delete(
        PODS, "a", "shop", propagation="Foreground", grace_seconds=0, preconditions=kube.Preconditions(uid="u")
    )
    assert played.seen[0][3] == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }
    await api.delete(PODS, "a", "shop")
    assert played.seen[1][3] is None


def streaming(*pieces: bytes) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.001)
        return response

    return answer


async def test_watch_joins_lines_of_any_length_and_ends_with_expired(server: tuple[Server, HttpApi]) -> None:
    played, api = server
    long = msgspec.json.encode({"type": "ADDED", "object": {"data": "x" * 200_000}}) + b"\n"
    bookmark = msgspec.json.encode({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}) + b"\n"
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    played.answer = streaming(
        long[:70_000], long[70_000:] + bookmark[:5], bookmark[5:], msgspec.json.encode(gone) + b"\n"
    )
    events = []
    with pytest.raises(kube.Expired, match="too old"):
        async for event in api.watch(PODS, resource_version="3"):
            events.append(event)  # noqa: PERF401 - what came before the error counts
    assert [event.type for event in events] == ["ADDED", "BOOKMARK"]
    assert len(events[0].object["data"]) == 200_000
    query = played.seen[0][2]
    assert (query["watch"], query["allowWatchBookmarks"], query["resourceVersion"]) == ("true", "true", "3")


async def test_watch_that_is_cut_off_is_unreachable(server: tuple[Server, HttpApi]) -> None:
    played, api = server

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"ADDED","object":{}}\n')
        assert request.transport is not None
        request.transport.abort()
        return response

    played.answer = cut
    with pytest.raises(kube.Unreachable):
        async for _ in api.watch(PODS):
            pass


async def test_a_refused_token_is_asked_for_again_once(server: tuple[Server, HttpApi]) -> None:
    played, api = server

    class Rotating:
        token = "old"

        async def headers(self) -> dict[str, str]:
            return {"Authorization": f"Bearer {self.token}"}

        def refused(self) -> None:
            self.token = "new"

    async def only_new(request: web.Request) -> web.StreamResponse:
        ok = request.headers["Authorization"] == "Bearer new"
        return web.json_response({"ok": True} if ok else {"kind": "Status", "code": 401}, status=200 if ok else 401)

    played.answer = only_new
    async with HttpApi(Target(api.target.server, credentials=Rotating())) as rotating:
        assert await rotating.get(PODS, "a", "shop") == {"ok": True}
    with pytest.raises(kube.ApiError) as caught:
        await api.get(PODS, "a", "shop")
    assert caught.value.code == 401
    assert len(played.seen) == 4


async def test_nobody_listens() -> None:
    async with HttpApi(Target("http://127.0.0.1:1")) as api:
        with pytest.raises(kube.Unreachable, match=r"cannot talk to http://127\.0\.0\.1:1"):
            await api.get(PODS, "a", "shop")


async def test_timeout(server: tuple[Server, HttpApi]) -> None:
    played, api = server

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.json_response({})

    played.answer = slow
    async with HttpApi(api.target, timeout=0.05) as hasty:
        with pytest.raises(kube.Unreachable, match="no answer") as caught:
            await hasty.get(PODS, "a", "shop")
    assert caught.value.code == 0


async def test_logs(server: tuple[Server, HttpApi]) -> None:
    played, api = server
    played.answer = streaming(b"one\n", b"two\n")
    pieces = [piece async for piece in logs(api, "shop", "a", container="c", follow=True, tail_lines=2)]
    assert b"".join(pieces) == b"one\ntwo\n"
    assert played.seen[0][1:3] == (
        "/api/v1/namespaces/shop/pods/a/log",
        {"container": "c", "follow": "true", "tailLines": "2"},
    )


async def test_port_forward_echo(server: tuple[Server, HttpApi]) -> None:
    played, api = server

    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        port = int(request.query["ports"]).to_bytes(2, "little")
        await socket.send_bytes(b"\0" + port)
        await socket.send_bytes(b"\1" + port)
        async for message in socket:
            await socket.send_bytes(b"\0" + message.data[1:])
            if message.data[1:] == b"fail":
                await socket.send_bytes(b"\1connection refused")
        return socket

    played.answer = echo
    async with port_forward(api, "shop", "a", 15000) as stream:
        await stream.write(b"hello")
        assert await stream.read() == b"hello"
        await stream.write(b"fail")
        assert await stream.read() == b"fail"
        with pytest.raises(kube.ApiError, match="connection refused"):
            await stream.read()


async def test_port_forward_to_a_pod_that_is_not_there(server: tuple[Server, HttpApi]) -> None:
    played, api = server
    played.answer = answering(404, {"kind": "Status", "code": 404})
    with pytest.raises(kube.NotFound):
        async with port_forward(api, "shop", "a", 15000):
            pass


def test_aiohttp_is_not_imported_by_the_contract() -> None:
    import subprocess
    import sys

    code = "import sys, mizzen.kube.api; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert aiohttp.__version__


def test_whoever_loads_the_client_reads_no_authorities_of_the_machine() -> None:
    import subprocess
    import sys

    code = (
        "import os; before = dict(os.environ); import mizzen.kube.streams; from aiohttp import connector; "
        "assert connector._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509'] == 0; assert dict(os.environ) == before"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
