"""Who joins, and what is waited for before a gateway is told anything."""

from __future__ import annotations

import asyncio

from mizzen.ads.server import Stream
from mizzen.ads.session import DeltaSession
from mizzen.ads.store import Store
from mizzen.ads.wire import Node
from mizzen.api.base import Metadata
from mizzen.api.core import Pod, PodSpec
from mizzen.controlplane.fleet import Fleet
from mizzen.controlplane.push import touched
from mizzen.scope.snapshot import Change, SecretReader, Snapshot, present

POD = Pod(metadata=Metadata(name="in-1", namespace="edge"), spec=PodSpec(service_account_name="gate"))
RIGHT = SecretReader(metadata=Metadata(name="gate", namespace="edge"), allowed=True)


def stream(kind: str) -> Stream:
    node = Node(f"{kind}~10.0.0.1~in-1.edge~edge.svc.cluster.local")
    return Stream(DeltaSession(Store()), ("spiffe://cluster.local/ns/edge/sa/gate",), lambda body: None, node)


def tell(fleet: Fleet, *changes: Change) -> None:
    before = fleet.views.snapshot
    after = before.apply(*changes)
    fleet.advance(after, touched(before, after, list(changes)), 0.0)


async def test_a_gateway_waits_until_it_is_known_whether_it_gets_keys() -> None:
    fleet, asked = Fleet(Store(), Snapshot.of([POD])), asyncio.Event()
    fleet.accounts_changed = asked.set
    gate = stream("router")
    joining = asyncio.create_task(fleet.join(gate))
    await asked.wait()
    assert fleet.accounts == {("edge", "gate")} and not fleet.connected
    tell(fleet, present(RIGHT))
    await joining
    assert gate in fleet.connected
    fleet.leave(gate)
    assert fleet.accounts == frozenset()


async def test_who_gives_up_waiting_is_asked_about_no_more_and_sidecars_do_not_wait() -> None:
    fleet = Fleet(Store(), Snapshot.of([POD]))
    joining = asyncio.create_task(fleet.join(stream("router")))
    await asyncio.sleep(0)
    assert fleet.accounts
    joining.cancel()
    await asyncio.wait([joining])
    assert fleet.accounts == frozenset()
    await fleet.join(stream("sidecar"))
    assert fleet.accounts == frozenset() and len(fleet.connected) == 1
