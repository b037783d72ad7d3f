"""Real Envoy judges what we write: everything is acknowledged, nothing refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

import meshes
import scopes
from dice import Dice
from envoy_judge import free_port, judge
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds import translate
from stories import Scopes, stories, story
from stories import scopes as scopes_of
from stories import world as world_of

pytestmark = pytest.mark.process
TIMES = 20 if os.environ.get("MIZZEN_THOROUGH") else 1


@pytest.mark.parametrize("kind", ["sidecar", "gateway"])
async def test_anything_valid(tmp_path: Path, kind: str) -> None:
    """Many worlds, drawn by chance, one after another in one Envoy."""
    fixed = {"proxy_listen_port": free_port(), "proxy_inbound_listen_port": free_port()}
    ports = free_port(), free_port()
    async with judge(tmp_path) as envoy:
        for seed in range(60 * TIMES):
            dice = Dice(seed)
            config = scopes.mesh(dice, **fixed)
            if kind == "gateway":
                world = translate.gateway(scopes.gateway_scope(dice, config, ports))
            else:
                calls = translate.outbound(scopes.outbound_scope(dice, config))
                serves = translate.inbound(scopes.inbound_scope(dice, config))
                world = {each: {**calls.get(each, {}), **serves[each]} for each in serves}
            assert await envoy.refusals(world) == [], f"seed {seed}"


class Ports(dict[int, int]):
    """In place of each port one that nothing else on this machine has, always the same."""

    def __missing__(self, port: int) -> int:
        self[port] = free_port()
        return self[port]


def elsewhere(found: Scopes, ports: Ports) -> Scopes:
    own = {"proxy_listen_port": ports[15001], "proxy_inbound_listen_port": ports[15006]}
    outbound, inbound, gateway = found.outbound, found.inbound, found.gateway
    return Scopes(
        outbound and replace(outbound, mesh=replace(outbound.mesh, **own)),
        inbound and replace(inbound, mesh=replace(inbound.mesh, **own)),
        gateway and replace(gateway, servers=tuple(replace(each, port=ports[each.port]) for each in gateway.servers)),
    )


async def test_all_golden_stories(tmp_path: Path) -> None:
    ports = Ports()
    async with judge(tmp_path) as envoy:
        for path in stories():
            told = story(path)
            found = elsewhere(scopes_of(told.snapshot, told.proxy, gateway=told.gateway), ports)
            assert await envoy.refusals(world_of(found, told.snapshot, told.proxy.namespace)) == [], told.name


@pytest.mark.parametrize("gateway", [False, True], ids=["sidecar", "gateway"])
async def test_whatever_users_may_apply(tmp_path: Path, gateway: bool) -> None:
    """Meshes drawn by chance, some of them contradicting themselves, as far as admission lets them in."""
    labels = {"istio": "ingressgateway"} if gateway else {"app": "a"}
    proxy, ports = Proxy(namespace="default", name="a-1", labels=labels), Ports()
    async with judge(tmp_path) as envoy:
        for seed in range(35 * TIMES):
            snapshot = Snapshot.of(meshes.mesh_objects(seed))
            found = elsewhere(scopes_of(snapshot, proxy, gateway=gateway), ports)
            assert await envoy.refusals(world_of(found, snapshot, "default")) == [], f"seed {seed}"
