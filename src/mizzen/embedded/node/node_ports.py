"""NodePorts of a box without a link to the machine: the machine listens on its loopback, the node relays.

As root there is nothing to do here: the box has an address, and nftables does it all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from mizzen.embedded.box.addresses import GATEWAY, GATEWAY_IPV6
from mizzen.embedded.box.broker import Wanted, ask
from mizzen.embedded.node.events import Recorder
from mizzen.embedded.node.splice import splice
from mizzen.kube.api import JSON, WELL_KNOWN, Api
from mizzen.kube.informer import Informer

LISTEN = "127.0.0.1"
_RETRY = 5.0


Complaint: TypeAlias = Callable[[str], None]
"""Takes why a Service's node port does not answer on the machine."""


def wanted_ports(services: Iterable[JSON], protocol: str = "TCP") -> dict[int, JSON]:
    """Every node port of this protocol, with its Service."""
    return {
        int(port["nodePort"]): service
        for service in services
        for port in service["spec"].get("ports") or ()
        if port.get("nodePort") and (port.get("protocol") or "TCP") == protocol
    }


async def run_node_ports(api: Api, broker: Path, recorder: Recorder) -> None:
    """Until cancelled. A port that the machine uses otherwise is told by an event of its Service, and tried again."""

    def complaint(service: JSON) -> Complaint:
        return lambda why: recorder.warning({**service, "kind": "Service"}, "NodePortUnavailable", why)

    services = Informer(api, WELL_KNOWN.services)
    changed = asyncio.Event()
    services.subscribe(lambda _: changed.set())
    listening: dict[int, asyncio.Task[None]] = {}
    told: set[int] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(services.run())
        while True:
            await changed.wait()
            changed.clear()
            wanted = wanted_ports(services.objects.values())
            for port in listening.keys() - wanted.keys():
                listening.pop(port).cancel()
            for port in wanted.keys() - listening.keys():
                inside = _inside(wanted[port])
                listening[port] = group.create_task(_listen(broker, inside, port, complaint(wanted[port])))
            for port, service in wanted_ports(services.objects.values(), "UDP").items():
                if port not in told:
                    told.add(port)
                    complaint(service)(
                        f"node port {port}/UDP answers within the cluster only: without root, TCP is relayed"
                    )


def _inside(service: JSON) -> str:
    """Where its node ports answer within the box."""
    return GATEWAY if "IPv4" in (service["spec"].get("ipFamilies") or ["IPv4"]) else GATEWAY_IPV6


async def _listen(broker: Path, inside: str, port: int, complain: Complaint) -> None:
    while True:
        try:
            listener = await asyncio.to_thread(ask, broker, Wanted(op="listen", address=LISTEN, port=port))
            break
        except OSError as error:
            complain(f"node port {port} cannot be had on the machine: {error.strerror}")
            await asyncio.sleep(_RETRY)
    async with await asyncio.start_server(lambda *pair: _relay(inside, port, *pair), sock=listener) as server:
        await server.serve_forever()


async def _relay(inside: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: from the machine to the Service's node port, as seen from within the box."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(inside, port)
    except OSError:
        writer.transport.abort()
        return
    await splice((reader, writer), (inner_reader, inner_writer))
