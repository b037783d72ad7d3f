"""The cluster's DNS server: the zone of Services answered here, everything else asked of the machine's resolvers.

It listens on UDP and TCP. What it says is as old as the watch: no cache stands between an EndpointSlice and its answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from mizzen.embedded.box.addresses import DNS_ADDRESS
from mizzen.embedded.node.dns_upstream import Forward, Upstream
from mizzen.embedded.node.dns_zone import Record, Zone
from mizzen.kube.api import WELL_KNOWN, Api
from mizzen.kube.informer import Informer

log = logging.getLogger(__name__)

TTL = 5
_UDP_SIZE = 1232
_PLAIN_UDP_SIZE = 512
_LONGEST_CHAIN = 8
_WHOLE_ADDRESSES = ((dns.reversename.ipv4_reverse_domain, 7), (dns.reversename.ipv6_reverse_domain, 35))
"""The names of addresses, and how many labels they have."""
_TCP_IDLE_SECONDS = 10.0

CurrentZone: TypeAlias = Callable[[], Zone | None]
"""None: the cluster has not been read yet."""


async def run_dns(
    api: Api,
    address: str = DNS_ADDRESS,
    port: int = 53,
    *,
    domain: str = "cluster.local",
    forward: Forward | None = None,
) -> None:
    """Serves until cancelled. Raises OSError when the address cannot be had.

    `forward` asks about names that are not the cluster's; without it, the servers of /etc/resolv.conf are asked.
    """
    services, slices = Informer(api, WELL_KNOWN.services), Informer(api, WELL_KNOWN.endpointslices)
    zone = _FollowedZone(services, slices, domain)
    async with (
        serving(zone.current, forward or Upstream(avoid=address), address, port),
        asyncio.TaskGroup() as tasks,
    ):
        for informer in (services, slices):
            tasks.create_task(informer.run())
        await services.wait_synced()
        await slices.wait_synced()
        zone.complete = True


class _FollowedZone:
    """Built at the first question after a change."""

    def __init__(self, services: Informer, slices: Informer, domain: str) -> None:
        self.complete = False
        self._services, self._slices, self._domain = services, slices, domain
        self._zone: Zone | None = None
        for informer in (services, slices):
            informer.subscribe(lambda _: self._forget())

    def current(self) -> Zone | None:
        if self.complete and self._zone is None:
            self._zone = Zone.of(self._services.objects.values(), self._slices.objects.values(), self._domain)
        return self._zone

    def _forget(self) -> None:
        self._zone = None


@asynccontextmanager
async def serving(zone: CurrentZone, forward: Forward, address: str, port: int) -> AsyncIterator[int]:
    """Listens on UDP and TCP, and gives the port (useful when asked for 0). Raises OSError."""
    resolver = Resolver(zone, forward)
    tcp = await asyncio.start_server(lambda *streams: _serve_stream(resolver, *streams), address, port)
    taken = tcp.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(resolver), local_addr=(address, taken))
    try:
        yield taken
    finally:
        datagrams.close()
        tcp.close()


class Resolver:
    """Wire to wire."""

    def __init__(self, zone: CurrentZone, forward: Forward) -> None:
        self._zone = zone
        self._forward = forward

    async def answer(self, wire: bytes) -> dns.message.Message | None:
        """None: what came is not even a question that could be answered with an error."""
        try:
            query = dns.message.from_wire(wire)
        except dns.message.ShortHeader:
            return None
        except dns.exception.DNSException:
            return _malformed(wire)
        if query.flags & dns.flags.QR:
            return None
        if query.opcode() != dns.opcode.QUERY:
            return _response(query, dns.rcode.NOTIMP)
        if len(query.question) != 1 or query.question[0].rdclass != dns.rdataclass.IN:
            return _response(query, dns.rcode.REFUSED)
        return await self._resolve(query)

    async def _resolve(self, query: dns.message.Message) -> dns.message.Message:
        zone = self._zone()
        if zone is None:
            return _response(query, dns.rcode.SERVFAIL)
        question = query.question[0]
        found = _find(zone, question.name)
        if found is None:
            return await self._forwarded(query)
        response = _authoritative(query)
        await self._fill(response, zone, question.name, question.rdtype)
        return response

    async def _fill(
        self, response: dns.message.Message, zone: Zone, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> None:
        """Follows aliases, here or elsewhere, since a stub resolver in a Pod will not."""
        for _ in range(_LONGEST_CHAIN):
            found = _find(zone, name)
            if found is None:
                response.answer += await self._elsewhere(name, kind)
                return
            if not found.exists:
                response.set_rcode(dns.rcode.NXDOMAIN)
            response.answer += _rrsets(name, found.records, kind)
            alias = next((record for record in found.records if record.type == "CNAME"), None)
            if alias is None or kind == dns.rdatatype.CNAME:
                break
            name = dns.name.from_text(alias.data)
        if not response.answer or response.answer[-1].rdtype == dns.rdatatype.CNAME != kind:
            response.authority.append(_start_of_authority(zone))

    async def _elsewhere(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[dns.rrset.RRset]:
        try:
            return list((await self._forward(name, kind)).answer)
        except OSError as error:
            log.info("%s", error)
            return []

    async def _forwarded(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        try:
            found = await self._forward(question.name, question.rdtype)
        except OSError as error:
            log.info("%s", error)
            return _response(query, dns.rcode.SERVFAIL)
        response = _response(query, found.rcode())
        response.answer, response.authority = found.answer, found.authority
        return response


class _Found:
    """What the zone says about a name that is its own."""

    def __init__(self, records: tuple[Record, ...] | None) -> None:
        self.exists = records is not None
        self.records = records or ()


def _find(zone: Zone, name: dns.name.Name) -> _Found | None:
    """None: the name is not ours to speak about."""
    domain = dns.name.from_text(zone.domain)
    if name.is_subdomain(domain):
        labels = name.relativize(domain).labels
        return _Found(zone.records(tuple(label.decode("latin-1").lower() for label in labels if label)))
    if any(name.is_subdomain(reverse) and len(name.labels) == length for reverse, length in _WHOLE_ADDRESSES):
        records = zone.pointer(str(dns.reversename.to_address(name)))
        return _Found(records) if records else None
    return None


def _rrsets(name: dns.name.Name, records: Iterable[Record], kind: dns.rdatatype.RdataType) -> list[dns.rrset.RRset]:
    """The records of this type, and aliases whatever the type, in no order that a client could get used to."""
    by_type: dict[str, list[str]] = {}
    for record in records:
        if record.type == "CNAME" or kind in (dns.rdatatype.ANY, dns.rdatatype.from_text(record.type)):
            by_type.setdefault(record.type, []).append(record.data)
    for texts in by_type.values():
        random.shuffle(texts)
    return [dns.rrset.from_text(name, TTL, "IN", type_, *texts) for type_, texts in by_type.items()]


def _start_of_authority(zone: Zone) -> dns.rrset.RRset:
    """Says for how long a "no" may be believed."""
    text = f"ns.dns.{zone.domain}. hostmaster.{zone.domain}. 1 7200 1800 86400 {TTL}"
    return dns.rrset.from_text(dns.name.from_text(zone.domain), TTL, "IN", "SOA", text)


def _authoritative(query: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True, our_payload=_UDP_SIZE)
    response.flags |= dns.flags.AA
    return response


def _response(query: dns.message.Message, code: dns.rcode.Rcode) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True, our_payload=_UDP_SIZE)
    response.set_rcode(code)
    return response


def _malformed(wire: bytes) -> dns.message.Message:
    response = dns.message.Message(id=int.from_bytes(wire[:2], "big"))
    response.flags |= dns.flags.QR
    response.set_rcode(dns.rcode.FORMERR)
    return response


def _fitted(response: dns.message.Message, size: int) -> bytes:
    """The message; if it is too long, what says so, and the client comes again over TCP."""
    try:
        return response.to_wire(max_size=size)
    except dns.exception.TooBig:
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=size)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._transport: asyncio.DatagramTransport | None = None
        self._answering: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(data, addr))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        response = await self._resolver.answer(data)
        if response is not None and self._transport is not None and not self._transport.is_closing():
            size = max(min(response.request_payload, _UDP_SIZE), _PLAIN_UDP_SIZE)
            self._transport.sendto(_fitted(response, size), addr)


async def _serve_stream(resolver: Resolver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Questions one after the other, each behind its length, until the client leaves or is silent."""
    try:
        while True:
            length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), _TCP_IDLE_SECONDS), "big")
            response = await resolver.answer(await asyncio.wait_for(reader.readexactly(length), _TCP_IDLE_SECONDS))
            if response is None:
                return
            wire = response.to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()
