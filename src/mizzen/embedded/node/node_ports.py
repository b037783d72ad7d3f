"""NodePorts of a box without a link to the machine: the machine listens on its loopback, the node relays.

As root there is nothing to do here: the box has an address, and nftables does it all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from mizzen.embedded.box.broker import Wanted, ask
from mizzen.embedded.box.network import GATEWAY
from mizzen.embedded.node.splice import splice
from mizzen.kube.api import JSON, WELL_KNOWN, Api
from mizzen.kube.informer import Informer

log = logging.getLogger(__name__)

LISTEN = "127.0.0.1"
_RETRY = 5.0


def wanted_ports(services: Iterable[JSON]) -> set[int]:
    """Every TCP node port that a Service has."""
    return {
        int(port["nodePort"])
        for service in services
        for port in service["spec"].get("ports") or ()
        if port.get("nodePort") and (port.get("protocol") or "TCP") == "TCP"
    }


async def run_node_ports(api: Api, broker: Path) -> None:
    """Until cancelled. A port that the machine uses otherwise is logged, and tried again."""
    services = Informer(api, WELL_KNOWN.services)
    changed = asyncio.Event()
    services.subscribe(lambda _: changed.set())
    listening: dict[int, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(services.run())
        while True:
            await changed.wait()
            changed.clear()
            wanted = wanted_ports(services.objects.values())
            for port in listening.keys() - wanted:
                listening.pop(port).cancel()
            for port in wanted - listening.keys():
                listening[port] = group.create_task(_listen(broker, port))


async def _listen(broker: Path, port: int) -> None:
    while True:
        try:
            listener = await asyncio.to_thread(ask, broker, Wanted(op="listen", address=LISTEN, port=port))
            break
        except OSError as error:
            log.warning("node port %d cannot be had on the machine's %s: %s", port, LISTEN, error)
            await asyncio.sleep(_RETRY)
    async with await asyncio.start_server(lambda *pair: _relay(port, *pair), sock=listener) as server:
        await server.serve_forever()


async def _relay(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: from the machine to the Service's node port, as seen from within the box."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(GATEWAY, port)
    except OSError:
        writer.transport.abort()
        return
    await splice((reader, writer), (inner_reader, inner_writer))
