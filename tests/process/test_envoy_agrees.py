"""Real Envoy sends requests where `explain.simulate` says they go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from envoy_judge import free_port, judge
from mizzen.envoy.resources import ENDPOINTS, Resources
from mizzen.explain.simulate import Call, place
from mizzen.scope import model
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds.endpoints import cluster_load_assignment
from stories import objects, scopes, services, world

pytestmark = pytest.mark.process

GIVEN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: [a.example.com, "*.example.org"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: [a.example.com, "*.example.org"]
  gateways: [front]
  http:
  - match:
    - {uri: {exact: /Case}, ignoreUriCase: true}
    - {uri: {regex: "/id/[0-9]+"}, method: {exact: GET}}
    - {headers: {x-version: {exact: v2}}}
    - {headers: {x-any: {}}, withoutHeaders: {x-not: {}}}
    - {queryParams: {v: {regex: "[23]"}}}
    route: [{destination: {host: b}}]
  - match: [{withoutHeaders: {x-plain: {prefix: "no"}}, uri: {prefix: /plain}}]
    route: [{destination: {host: c}}]
  - match: [{uri: {prefix: /gone}}]
    directResponse: {status: 410}
  - match: [{uri: {prefix: /moved}}]
    redirect: {uri: /there, redirectCode: 307}
  - match: [{uri: {prefix: /split}}]
    route:
    - {destination: {host: b}, weight: 30}
    - {destination: {host: c}, weight: 70}
    - {destination: {host: a}, weight: 0}
  - match: [{uri: {prefix: /nowhere}}]
    route: [{destination: {host: b, subset: none}}]
  - match: [{authority: {prefix: a.}}]
    route: [{destination: {host: a}}]
"""
ASKED: list[tuple[str, str, str, dict[str, str]]] = [
    (method, host, path, headers)
    for method in ("GET", "POST")
    for host in ("a.example.com", "A.Example.COM:8080", "x.example.org", "example.org", "other")
    for path, headers in (
        ("/", {}),
        ("/case", {}),
        ("/id/7", {}),
        ("/id/7?v=1", {}),
        ("/id/x", {}),
        ("/", {"X-Version": "v2"}),
        ("/", {"x-version": "v20"}),
        ("/", {"x-any": "1"}),
        ("/", {"x-any": "1", "x-not": ""}),
        ("/q?v=3", {}),
        ("/q?v=4&v=3", {}),
        ("/plain", {}),
        ("/plain", {"x-plain": "no way"}),
        ("/plainer", {"x-plain": "yes"}),
        ("/gone", {}),
        ("/moved", {}),
    )
]


class Answer(NamedTuple):
    status: int
    body: str
    headers: dict[str, str]


@asynccontextmanager
async def application(name: str) -> AsyncIterator[int]:
    """Answers every request with its own name."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(name)}\r\n\r\n{name}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(port: int, method: str, host: str, path: str, headers: dict[str, str]) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    first, *rest = head.split("\r\n")
    return Answer(int(first.split()[1]), body, dict(line.lower().split(": ", 1) for line in rest))


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[int, Resources]]:
    port = free_port()
    names = {f"{name}.default": {80: "http"} for name in "abc"}
    snapshot = Snapshot.of([*services(names), *objects(GIVEN.replace("PORT", str(port)))])
    proxy = Proxy(namespace="istio-system", name="in", labels={"istio": "ingressgateway"})
    async with AsyncExitStack() as stack:
        told = dict(world(scopes(snapshot, proxy, gateway=True), snapshot, "istio-system"))
        told[ENDPOINTS] = {
            cluster: cluster_load_assignment(
                cluster,
                [model.Endpoint(address="127.0.0.1", port=await stack.enter_async_context(application(name)))],
            )
            for name in "abc"
            for cluster in [f"outbound|80||{name}.default.svc.cluster.local"]
        }
        envoy = await stack.enter_async_context(judge(folder))
        assert await envoy.refusals(told) == []
        await until_open(port)
        yield port, told


async def until_open(port: int) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


def expected(call: Call, told: Resources) -> tuple[int, str]:
    landing = place(call, told)
    if landing.error:
        return 404, ""
    if landing.status:
        return landing.status, ""
    return 200, landing.cluster.split("|")[3].split(".")[0]


async def test_every_request_lands_where_it_was_said_to(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, told):
        answers = await asyncio.gather(*(ask(port, *asked) for asked in ASKED))
        for (method, host, path, headers), answer in zip(ASKED, answers, strict=True):
            call = Call(port, method=method, host=host, path=path, headers=headers)
            assert (answer.status, answer.body) == expected(call, told), call
            assert answer.headers["server"] == "istio-envoy"


async def test_shares_are_the_weights(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, told):
        assert [weight for _, weight in place(Call(port, host="a.example.com", path="/split"), told).clusters] == [
            30,
            70,
        ]
        answers = [await ask(port, "GET", "a.example.com", "/split", {}) for _ in range(400)]
        shares = Counter(answer.body for answer in answers)
        assert set(shares) == {"b", "c"}
        assert 80 <= shares["b"] <= 160, "binomial: five standard deviations around 120"


async def test_a_missing_subset_is_503_and_heals_nothing_else(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _):
        assert (await ask(port, "GET", "a.example.com", "/nowhere", {})).status == 503
        assert (await ask(port, "GET", "a.example.com", "/", {})).body == "a"


async def test_redirects_say_where(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _):
        answer = await ask(port, "GET", "a.example.com", "/moved/x", {})
        assert (answer.status, answer.headers["location"]) == (307, "http://a.example.com/there")
