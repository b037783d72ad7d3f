"""Asks the machine's own resolvers about names that are not the cluster's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rdatatype

log = logging.getLogger(__name__)

Forward: TypeAlias = Callable[[dns.name.Name, dns.rdatatype.RdataType], Awaitable[dns.message.Message]]
"""Asks for a name and type elsewhere. Raises OSError when nobody answers."""

PATIENCE = 1.5
"""Seconds for all servers together: a resolver in a Pod waits five before it tries again."""
_KEPT = 1000
_STALE_TTL = 5
_PAYLOAD = 1232


Exchange: TypeAlias = Callable[[dns.message.Message, str, int, float], Awaitable[dns.message.Message]]
"""(query, server, port, seconds) → response. Raises OSError, DNSException."""


async def _exchange(query: dns.message.Message, server: str, port: int, limit: float) -> dns.message.Message:
    response, _ = await dns.asyncquery.udp_with_fallback(query, server, timeout=limit, port=port)
    return response


def name_servers(resolv_conf: str) -> list[str]:
    """The addresses in the text of a resolv.conf, in order."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


class Upstream:
    """A `Forward` over UDP, and TCP for what does not fit. While nobody answers, the last answer is given again."""

    def __init__(
        self,
        servers: Sequence[str] | None = None,
        *,
        avoid: str = "",
        port: int = 53,
        patience: float = PATIENCE,
        exchange: Exchange | None = None,
    ) -> None:
        """Without `servers`: those of /etc/resolv.conf, as it is at each question. `avoid` is our own address.

        `exchange` asks one server; without it, over sockets of this process.
        """
        self._exchange = exchange or _exchange
        self._servers = servers
        self._avoid = avoid
        self._port = port
        self._patience = patience
        self._last: dict[tuple[dns.name.Name, int], dns.message.Message] = {}

    async def __call__(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """Raises OSError when nobody answers and nobody ever did."""
        query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        try:
            response = await asyncio.wait_for(self._ask(query), self._patience)
        except (OSError, dns.exception.DNSException) as error:
            last = self._last.get((name, kind))
            if last is None:
                raise OSError(f"no upstream server answers for {name}: {error!r}") from error
            log.warning("no upstream server answers for %s (%r): giving the last answer", name, error)
            return last
        self._keep((name, kind), response)
        return response

    def servers(self) -> list[str]:
        found = self._servers
        if found is None:
            found = name_servers(Path("/etc/resolv.conf").read_text())
        return [server for server in found if server != self._avoid]

    async def _ask(self, query: dns.message.Message) -> dns.message.Message:
        """The first server that answers. Those after the first are tried when it fails, not when it is slow."""
        servers = self.servers()
        failure: Exception = OSError("there is no upstream server")
        for server in servers:
            try:
                return await self._exchange(query, server, self._port, self._patience / len(servers))
            except (OSError, dns.exception.DNSException) as error:
                failure = error
        raise failure

    def _keep(self, key: tuple[dns.name.Name, int], response: dns.message.Message) -> None:
        self._last.pop(key, None)
        self._last[key] = _soon_stale(response)
        if len(self._last) > _KEPT:
            del self._last[next(iter(self._last))]


def _soon_stale(response: dns.message.Message) -> dns.message.Message:
    """The same, to be asked for again soon."""
    kept = dns.message.from_wire(response.to_wire())
    for rrset in kept.answer:
        rrset.ttl = min(rrset.ttl, _STALE_TTL)
    return kept
