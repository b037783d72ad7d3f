"""A node that falls silent, and speaks again. The clock is the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.node_lifecycle import NodeLifecycle
from mizzen.embedded.node import registration
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.memory import MemoryApi

NODES, LEASES = WELL_KNOWN.nodes, WELL_KNOWN.leases
UNREACHABLE = [
    {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
]
MINE = {"key": "mine", "effect": "NoSchedule"}


class Machine:
    """One node that is registered, and whoever watches over it."""

    def __init__(self) -> None:
        self.api, self.time = MemoryApi(), 1000.0
        self.cluster = Cluster(self.api)
        self.lifecycle = NodeLifecycle(self.cluster, lambda: self.time)

    async def look(self) -> float | None:
        """In how many seconds it is time for the next one."""
        await asyncio.sleep(0.01)  # watches bring what was written
        return await self.lifecycle.sync(("", registration.NODE_NAME))

    async def node(self) -> JSON:
        return await self.api.get(NODES, registration.NODE_NAME)

    async def taints(self) -> list[JSON]:
        taints = (await self.node())["spec"].get("taints") or ()
        return [{key: value for key, value in each.items() if key != "timeAdded"} for each in taints]

    async def conditions(self) -> dict[str, tuple[str, str]]:
        return {each["type"]: (each["status"], each["reason"]) for each in (await self.node())["status"]["conditions"]}

    async def silence(self) -> None:
        await self.look()
        self.time += 41
        await self.look()


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    made = Machine()
    await registration.register(made.api, ["192.0.2.1"], "life")
    await registration._renew(made.api)
    following = asyncio.create_task(made.cluster.run())
    await made.cluster.wait_synced()
    yield made
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_a_node_whose_lease_is_renewed_is_left_alone(machine: Machine) -> None:
    assert await machine.look() == 40
    for _ in range(5):
        machine.time += 30
        await registration._renew(machine.api)
        assert await machine.look() == 40
    machine.time += 30
    assert await machine.look() == 10
    assert ("update", "nodes", "mizzen") not in machine.api.journal
    assert (await machine.conditions())["Ready"] == ("True", "KubeletReady")


async def test_of_a_silent_node_nobody_knows_how_it_is(machine: Machine) -> None:
    await machine.silence()
    assert set((await machine.conditions()).values()) == {("Unknown", "NodeStatusUnknown")}
    assert await machine.taints() == UNREACHABLE
    before = await machine.node()
    assert await machine.look() is None
    assert await machine.node() == before, "it is said once"
    (event,) = await events(machine)
    assert (event["reason"], event["message"]) == ("NodeNotReady", "Node mizzen status is now: NodeNotReady")


async def test_who_speaks_again_is_ready_when_it_says_so(machine: Machine) -> None:
    await machine.api.patch(NODES, registration.NODE_NAME, {"spec": {"taints": [MINE]}})
    await machine.silence()
    await registration._renew(machine.api)
    assert await machine.look() == 40
    assert await machine.taints() == [MINE, *UNREACHABLE], "a lease alone says nothing about Pods"
    await registration._tell_again(machine.api, ["192.0.2.1"], "life")
    await machine.look()
    assert await machine.taints() == [MINE]
    assert (await machine.conditions())["Ready"] == ("True", "KubeletReady")
    before = (await machine.node())["metadata"]["resourceVersion"]
    await registration._tell_again(machine.api, ["192.0.2.1"], "life")
    assert (await machine.node())["metadata"]["resourceVersion"] == before, "nothing to say"


async def test_a_node_that_never_said_anything_has_a_minute(machine: Machine) -> None:
    await machine.api.create(NODES, {"metadata": {"name": "other"}})
    await asyncio.sleep(0.01)
    assert await machine.lifecycle.sync(("", "other")) == 60
    machine.time += 60
    assert await machine.lifecycle.sync(("", "other")) is None
    node = await machine.api.get(NODES, "other")
    assert {each["reason"] for each in node["status"]["conditions"]} == {"NodeStatusNeverUpdated"}
    assert [each["key"] for each in node["spec"]["taints"]] == ["node.kubernetes.io/unreachable"] * 2


async def events(machine: Machine) -> list[JSON]:
    async with asyncio.timeout(3):
        async for event in machine.api.watch(WELL_KNOWN.events):
            if event.type == "ADDED":
                break
    return list(machine.api.all(WELL_KNOWN.events))
