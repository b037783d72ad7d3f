"""Real Envoy judges what we write: everything is acknowledged, nothing refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

import scopes
from envoy_judge import free_port, judge
from mizzen.envoy.resources import CLUSTER, LISTENER, ROUTES
from mizzen.xds import translate
from stories import Scopes, stories, story
from stories import scopes as scopes_of
from stories import world as world_of

pytestmark = pytest.mark.process


@pytest.mark.parametrize("kind", ["sidecar", "gateway"])
async def test_anything_valid(tmp_path: Path, kind: str) -> None:
    """Some hundred worlds, drawn by chance, one after another in one Envoy."""
    fixed = {"proxy_listen_port": free_port(), "proxy_inbound_listen_port": free_port()}
    ports = free_port(), free_port()
    async with judge(tmp_path) as envoy:
        for seed in range(150):
            dice = scopes.Dice(seed)
            config = scopes.mesh(dice, **fixed)
            if kind == "gateway":
                world = translate.gateway(scopes.gateway_scope(dice, config, ports))
            else:
                calls = translate.outbound(scopes.outbound_scope(dice, config))
                serves = translate.inbound(scopes.inbound_scope(dice, config))
                world = {each: {**calls[each], **serves[each]} for each in (CLUSTER, LISTENER, ROUTES)}
            assert await envoy.refusals(world) == [], f"seed {seed}"


def elsewhere(found: Scopes) -> Scopes:
    """The same on ports that nothing else on this machine has."""
    ports = {"proxy_listen_port": free_port(), "proxy_inbound_listen_port": free_port()}
    outbound, inbound, gateway = found.outbound, found.inbound, found.gateway
    return Scopes(
        outbound and replace(outbound, mesh=replace(outbound.mesh, **ports)),
        inbound and replace(inbound, mesh=replace(inbound.mesh, **ports)),
        gateway and replace(gateway, servers=tuple(replace(each, port=free_port()) for each in gateway.servers)),
    )


async def test_all_golden_stories(tmp_path: Path) -> None:
    async with judge(tmp_path) as envoy:
        for path in stories():
            told = story(path)
            found = elsewhere(scopes_of(told.snapshot, told.proxy, gateway=told.gateway))
            assert await envoy.refusals(world_of(found, told.snapshot, told.proxy.namespace)) == [], told.name
