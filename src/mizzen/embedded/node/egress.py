"""What Pods call outside the cluster: TCP to foreign addresses and upstream DNS, over sockets of the machine.

The box has no way out: its addresses mean nothing to the machine, whose forwarding and nftables stay as they are. So
the bridge redirects connections to foreign addresses to a relay here, which has the broker dial in the machine's
network. A call that fails out there is reset, after having been accepted here: that much differs from a route.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import dns.flags
import dns.message

from mizzen.embedded.box.addresses import (
    BRIDGE,
    GATEWAY,
    GATEWAY_IPV6,
    LINKS,
    LINKS_IPV6,
    PODS,
    PODS_IPV6,
    SERVICES,
    SERVICES_IPV6,
)
from mizzen.embedded.box.broker import Wanted, ask
from mizzen.embedded.node.splice import splice
from mizzen.nftables.families import IPV4, Family
from mizzen.nftables.fields import DESTINATION_TYPE, IIFNAME, L4PROTO, LOCAL
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import commit
from mizzen.nftables.ruleset import Chain, Hook, Rule, Table, redirect

log = logging.getLogger(__name__)

PORT = 15901
_TABLE = "mizzen-egress"
_AFTER_SERVICES = -90
_SO_ORIGINAL_DST = 80
_LISTENING = {4: GATEWAY, 6: GATEWAY_IPV6}
_OWN = {4: (str(PODS), SERVICES, str(LINKS)), 6: (str(PODS_IPV6), SERVICES_IPV6, str(LINKS_IPV6))}
"""Networks of the cluster, by IP version."""
_DIAL_LIMIT = 30.0
_RESET = struct.pack("ii", 1, 0)


def table(families: Sequence[Family] = (IPV4,)) -> Table:
    """Connections that leave a Pod for neither Pods, Services, the machine's end of the link nor the box itself."""
    return Table(
        _TABLE, (Chain("foreign", tuple(map(_foreign, families)), Hook("nat", "prerouting", _AFTER_SERVICES)),)
    )


def _foreign(family: Family) -> Rule:
    elsewhere = [family.destination.not_within(network) for network in _OWN[family.version]]
    tcp = L4PROTO.is_(socket.IPPROTO_TCP)
    return Rule(IIFNAME.is_(BRIDGE), tcp, *elsewhere, DESTINATION_TYPE.is_not(LOCAL), redirect(PORT))


async def run_egress(broker: Path, families: Sequence[Family] = (IPV4,)) -> None:
    """Until cancelled. Raises OSError when the relay's port or table cannot be had."""
    own = [_LISTENING[family.version] for family in families]
    server = await asyncio.start_server(lambda *pair: _relay(broker, *pair), own, PORT)
    async with server:
        await asyncio.to_thread(commit, replace_table(table(families)))
        await server.serve_forever()


async def _relay(broker: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client: socket.socket = writer.get_extra_info("socket")
    try:
        address, port = original_destination(client)
        if address in _LISTENING.values() and port == PORT:
            raise OSError(errno.ECONNREFUSED, "the relay itself was called")
        outside = await dial(broker, address, port)
    except (OSError, TimeoutError) as error:
        log.debug("a Pod's call to the outside failed: %s", error)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
        return
    await splice((reader, writer), await asyncio.open_connection(sock=outside))


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Where a redirected connection was going: netfilter's SO_ORIGINAL_DST, a sockaddr_in or sockaddr_in6.

    Raises OSError.
    """
    if connection.family == socket.AF_INET6:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        port, packed = struct.unpack_from("!2xH4x16s", raw)
        return socket.inet_ntop(socket.AF_INET6, packed), port
    port, packed = struct.unpack_from("!2xH4s", connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    return socket.inet_ntoa(packed), port


async def dial(broker: Path, address: str, port: int) -> socket.socket:
    """A connected TCP socket of the machine. Raises OSError, TimeoutError."""
    outside = await asyncio.to_thread(ask, broker, Wanted(op="connect", address=address, port=port))
    try:
        async with asyncio.timeout(_DIAL_LIMIT):
            await _connected(outside)
    except BaseException:
        outside.close()
        raise
    return outside


async def _connected(outside: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    loop.add_writer(outside.fileno(), lambda: None if writable.done() else writable.set_result(None))
    try:
        await writable
    finally:
        loop.remove_writer(outside.fileno())
    code = outside.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def exchange(
    broker: Path, query: dns.message.Message, server: str, port: int, limit: float
) -> dns.message.Message:
    """One DNS question to a server that the machine can reach: by UDP, and by TCP if the answer does not fit.

    Raises OSError, TimeoutError, dns.exception.DNSException.
    """
    async with asyncio.timeout(limit):
        answer = await _ask_by_datagram(broker, query, server, port)
        return await _ask_by_stream(broker, query, server, port) if answer.flags & dns.flags.TC else answer


async def _ask_by_datagram(broker: Path, query: dns.message.Message, server: str, port: int) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    with await asyncio.to_thread(ask, broker, Wanted(op="connect", address=server, port=port, kind="udp")) as outside:
        await loop.sock_sendall(outside, query.to_wire())
        while True:
            answer = dns.message.from_wire(await loop.sock_recv(outside, 65535))
            if query.is_response(answer):
                return answer


async def _ask_by_stream(broker: Path, query: dns.message.Message, server: str, port: int) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(sock=await dial(broker, server, port))
    try:
        wire = query.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return dns.message.from_wire(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        raise OSError(errno.ECONNRESET, "the name server hung up") from error
    finally:
        writer.close()
