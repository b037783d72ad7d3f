"""A sidecar as it stands in a Pod: captured connections, a real Envoy, an application that may speak first."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from captured import FAR, FAR6, HAS_IPV6, POD, POD6, RULES, VIP, End, pods
from envoy_judge import judge
from mizzen.agent.capture import capture
from mizzen.envoy.resources import ENDPOINTS
from mizzen.explain.encryption import Arrived, arrived
from mizzen.explain.reach import ENVOY_ADMIN_PORT
from mizzen.scope import model
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds import unencrypted
from mizzen.xds.endpoints import cluster_load_assignment
from stories import objects, scopes, services, world

pytestmark = [pytest.mark.process, pytest.mark.root]

SERVICES = {"far.default": {80: "http", 81: "", 3306: "tcp"}, "own.default": {8000: "http", 8001: "tcp", 8002: ""}}
# As in Istio, a plain caller of a server that speaks first needs DISABLE there: else TLS is waited for.
DUAL_STACK = """
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9, "fd00:10:96::9"]
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 82, name: http, targetPort: 80}, {port: 3306, name: tcp}, {port: 81}]
"""
SPEAKS_FIRST = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: own}
spec: {selector: {matchLabels: {app: own}}, portLevelMtls: {"8001": {mode: DISABLE}}}
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: far}
spec:
  hosts: [far]
  http:
  - match: [{uri: {prefix: /faulty}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: far}}]
  - match: [{uri: {prefix: /shared}}]
    corsPolicy: {allowOrigins: [{exact: "https://a.example.com"}], allowMethods: [PUT]}
    route: [{destination: {host: far}}]
  - route: [{destination: {host: far}}]
"""


@pytest.fixture
def ends(private_network: None) -> Iterator[tuple[End, End]]:
    with pods([80, 81, 3306, 7777]) as found:
        yield found


@asynccontextmanager
async def sidecar(folder: Path) -> AsyncIterator[None]:
    capture(RULES, {})
    snapshot = Snapshot.of([*services(SERVICES), *objects(SPEAKS_FIRST), *objects(DUAL_STACK), *objects(ROUTES)])
    proxy = Proxy(namespace="default", name="own-1", labels={"app": "own"}, ipv6=HAS_IPV6)
    told: dict[str, Any] = dict(world(scopes(snapshot, proxy, gateway=False), snapshot, "default"))
    told[ENDPOINTS] = {
        cluster: cluster_load_assignment(cluster, [_endpoint(cluster)])
        for cluster in told[ENDPOINTS]
        if "far" in cluster or "both" in cluster
    }
    async with judge(folder, user=1337, admin=ENVOY_ADMIN_PORT) as envoy:
        assert await envoy.refusals(told) == []
        yield


def _endpoint(cluster: str) -> model.Endpoint:
    port = int(cluster.split("|")[1])
    if "far" in cluster:
        return model.Endpoint(address=FAR, port=port)
    return model.Endpoint(address=FAR6, port={82: 80}.get(port, port), more=(FAR,))


async def test_what_the_application_calls(ends: tuple[End, End], tmp_path: Path) -> None:
    own, _ = ends
    async with sidecar(tmp_path):
        assert await own.get(VIP, 80, "far") == f"200 80 asked by {POD}"
        assert await own.get(VIP, 81, "far") == f"200 81 asked by {POD}"
        assert await own.call(VIP, 81, "some bytes\n") == f"81 asked by {POD}"
        assert await own.call(VIP, 3306) == "hello from 3306"
        assert await own.get(FAR, 80, "elsewhere.example.com") == f"200 80 asked by {POD}"
        assert await own.call(FAR, 80, "some bytes\n") == f"80 asked by {POD}"
        assert await own.call(FAR, 7777) == "hello from 7777"
        assert (await own.get("10.96.0.2", 8000, "own")).startswith("503")
        assert await own.call(POD, 15001, "x") in ("", "ConnectionResetError")


async def test_faults_and_cors_where_a_route_asks_for_them(ends: tuple[End, End], tmp_path: Path) -> None:
    """Their filters stand by, disabled."""
    own, _ = ends
    asks = "Origin: https://a.example.com\r\nAccess-Control-Request-Method: PUT\r\nHost: far\r\nConnection: close"
    async with sidecar(tmp_path):
        assert (await own.get(VIP, 80, "far", "/faulty")).startswith("418")
        assert await own.get(VIP, 80, "far", "/sound") == f"200 80 asked by {POD}"
        preflight = await own.call(VIP, 80, f"OPTIONS /shared HTTP/1.1\r\n{asks}\r\n\r\n")
        assert "access-control-allow-methods: PUT" in preflight
        passed_on = await own.call(VIP, 80, f"OPTIONS /own HTTP/1.1\r\n{asks}\r\n\r\n")
        assert passed_on.endswith(f"80 asked by {POD}")


async def test_what_calls_the_application(ends: tuple[End, End], tmp_path: Path) -> None:
    _, far = ends
    async with sidecar(tmp_path):
        assert await far.get(POD, 8000, "anything") == "200 8000 asked by 127.0.0.6"
        assert await far.call(POD, 8001) == "hello from 8001"
        assert await far.get(POD, 8002, "anything") == "200 8002 asked by 127.0.0.6"
        assert await far.call(POD, 8002, "some bytes\n") == "8002 asked by 127.0.0.6"
        assert await far.get(POD, 8003, "anything") == "200 8003 asked by 127.0.0.6"
        assert await far.call(POD, 8003, "some bytes\n") == "8003 asked by 127.0.0.6"
        assert await far.call(POD, 15006, "x") in ("", "ConnectionResetError")
        seen = await asyncio.to_thread(counted)
        plain = {one.port: one.calls for one in seen if (one.seen, one.source) == (unencrypted.PLAIN, FAR)}
        assert plain == {8000: 1, 8001: 1, 8002: 2, 8003: 2}, "each caller without mesh TLS is counted, by port"


@pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")
async def test_ipv6_is_captured_as_ipv4_is(ends: tuple[End, End], tmp_path: Path) -> None:
    own, far = ends
    async with sidecar(tmp_path):
        for vip in ("10.96.0.9", "fd00:10:96::9"):
            assert await own.get(vip, 82, "both") == f"200 80 asked by {POD6}"
            assert await own.call(vip, 3306) == "hello from 3306"
            assert await own.call(vip, 81, "some bytes\n") == f"81 asked by {POD6}"
        assert await own.get(FAR6, 80, "elsewhere.example.com") == f"200 80 asked by {POD6}"
        assert await own.call(FAR6, 7777) == "hello from 7777"
        assert await own.call(POD6, 15001, "x") in ("", "ConnectionResetError")
        assert await far.get(POD6, 8000, "anything") == "200 8000 asked by ::6"
        assert await far.call(POD6, 8001) == "hello from 8001"
        assert await far.get(POD6, 8002, "anything") == "200 8002 asked by ::6"
        assert await far.call(POD6, 8003, "some bytes\n") == "8003 asked by ::6"
        assert await far.get(POD, 8000, "anything") == "200 8000 asked by 127.0.0.6"
        assert await far.call(POD6, 15006, "x") in ("", "ConnectionResetError")
        seen = await asyncio.to_thread(counted)
        assert {one.port for one in seen if one.source == FAR6} == {8000, 8001, 8002, 8003}


def counted() -> list[Arrived]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{ENVOY_ADMIN_PORT}/stats/prometheus?filter=^mizzen", timeout=5
    ) as page:
        return list(arrived(page.read().decode()))
