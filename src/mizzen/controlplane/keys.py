"""Gets the keys that RequestAuthentications lead to, again and again: proxies are given keys, not addresses.

Keys that cannot be had are none: every token is refused then. Keys that were had stay while a later attempt fails.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

from mizzen.api.legality.request_authentication import key_set
from mizzen.kube.authorities import unread
from mizzen.scope.snapshot import Change, KeySet, absent, present

with unread():
    import aiohttp

log = logging.getLogger(__name__)

REFRESH = 20 * 60.0
"""Seconds after which keys are got anew, where nothing else is said."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
_LARGEST = 1 << 20
DISCOVERY = "/.well-known/openid-configuration"
Forbidden: TypeAlias = Callable[[IPv4Address | IPv6Address], bool]


class NoKeys(Exception):
    """Why an address gives none."""


def internal(address: IPv4Address | IPv6Address) -> bool:
    """Addresses that are ours or the machine's: whoever may write a policy must not make us ask there."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_loopback or mapped.is_multicast or mapped.is_unspecified)


class KeyFetcher:
    """`want` says which addresses matter now; `tell` hears of every address whose keys are other than before."""

    def __init__(
        self, tell: Callable[[Change], None], forbidden: Forbidden = internal, refresh: float = REFRESH
    ) -> None:
        self._tell = tell
        self._refresh = refresh
        self._forbidden = forbidden
        self._wanted: dict[str, float] = {}
        self._known: dict[str, KeySet] = {}
        self._changed = asyncio.Event()

    def want(self, urls: Mapping[str, float]) -> None:
        """URLs, each with the seconds that an attempt may take."""
        if urls != self._wanted:
            self._wanted = dict(urls)
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            running: dict[str, asyncio.Task[None]] = {}
            while True:
                for url in running.keys() - self._wanted.keys():
                    running.pop(url).cancel()
                    self._forget(url)
                for url in self._wanted.keys() - running.keys():
                    running[url] = tasks.create_task(self._follow(url))
                await self._changed.wait()
                self._changed.clear()

    def _forget(self, url: str) -> None:
        if known := self._known.pop(url, None):
            self._tell(absent(known))

    async def _follow(self, url: str) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                keys = await self._keys(url, self._wanted.get(url, 5.0))
            except NoKeys as error:
                log.warning("no keys at %s: %s", url, error)
                known = self._known.get(url)
                self._learn(KeySet.of(url, known.keys if known else "", str(error)))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                self._learn(KeySet.of(url, keys))
                pause = FIRST_RETRY
                await asyncio.sleep(self._refresh)

    def _learn(self, found: KeySet) -> None:
        if self._known.get(found.name) != found:
            self._known[found.name] = found
            self._tell(present(found))

    async def _keys(self, url: str, seconds: float) -> str:
        """A JSON Web Key Set, also by way of an OpenID configuration. Raises NoKeys."""
        context = await asyncio.to_thread(_authorities)
        connector = aiohttp.TCPConnector(socket_factory=self._socket, ssl=context)
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                if url.endswith(DISCOVERY):
                    url = _named(await _body(session, url))
                found = await _body(session, url)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise NoKeys(str(error) or type(error).__name__) from error
        if not key_set(found):
            raise NoKeys("what is there is no JSON Web Key Set with a key")
        return found

    def _socket(self, where: tuple[Any, ...]) -> socket.socket:
        """Called with every address before it is connected to, whichever name or redirection led there."""
        family, kind, protocol, _, place = where
        if self._forbidden(ip_address(str(place[0]).partition("%")[0])):
            raise OSError(errno.EACCES, f"{place[0]} is an internal address, where no keys are asked for")
        return socket.socket(family, kind, protocol)


@cache
def _authorities() -> ssl.SSLContext:
    """Those of the machine: issuers are strangers. Reads files."""
    return ssl.create_default_context()


async def _body(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url, max_redirects=3) as answer:
        if answer.status != 200:
            raise NoKeys(f"{url} answers {answer.status}")
        body = await answer.content.read(_LARGEST)
        return body.decode()


def _named(configuration: str) -> str:
    """The address in an OpenID configuration."""
    found = json.loads(configuration)
    url = found.get("jwks_uri") if isinstance(found, dict) else None
    if not isinstance(url, str):
        raise NoKeys("the issuer's OpenID configuration names no jwks_uri")
    return url
