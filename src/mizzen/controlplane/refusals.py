"""What proxies refuse, told to the objects that it follows from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mizzen.api.base import Problem
from mizzen.envoy.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, SECRET
from mizzen.scope.model import GatewayScope, Guards, InboundScope, OutboundScope, Source, TcpRule
from mizzen.xds.secrets import in_files

REFUSED = "MZ0120"
SHORT = {CLUSTER: "cluster", LISTENER: "listener", ROUTES: "route table", EXTENSION: "filter", SECRET: "secret"}
_SHOWN = 3
_ACTIONS = {"custom-match": "CUSTOM", "custom": "CUSTOM", "audit": "AUDIT", "deny": "DENY", "allow": "ALLOW"}
_TOKENS = "mizzen.tokens"


class Refusal(NamedTuple):
    """One proxy's no."""

    proxy: str
    """`POD.NAMESPACE`"""
    type_url: str
    name: str
    message: str
    """Envoy's own words."""
    scopes: tuple[OutboundScope | InboundScope | GatewayScope, ...]
    """What it was told follows from these."""


def refusals(found: Iterable[Refusal]) -> Iterator[Problem]:
    """One problem for each object and refused resource, whoever refuses it."""
    proxies: dict[tuple[Source, str, str, str], list[str]] = {}
    for one in found:
        for source in {source for scope in one.scopes for source in origins(scope, one.type_url, one.name)}:
            proxies.setdefault((source, one.type_url, one.name, one.message), []).append(one.proxy)
    for (source, type_url, name, message), names in proxies.items():
        yield Problem(
            code=REFUSED,
            level="error",
            kind=source.kind,
            namespace=source.namespace,
            name=source.name,
            path="",
            message=f"{_shown(names)} refused the {SHORT.get(type_url, 'resource')} {name} that follows from this "
            f"object, and kept what was there before: {message}",
        )


def _shown(names: list[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _SHOWN} others" if len(every) > _SHOWN else ""
    return f"{len(every)} {'proxy' if len(every) == 1 else 'proxies'} ({', '.join(every[:_SHOWN])}{more})"


def origins(scope: OutboundScope | InboundScope | GatewayScope, type_url: str, name: str) -> Iterator[Source]:
    """The user's objects that a resource of this name follows from."""
    if type_url == EXTENSION and not isinstance(scope, OutboundScope):
        yield from _guarding(scope.guards, name)
    if isinstance(scope, InboundScope):
        return
    if type_url == ROUTES:
        tables = (table for table in scope.routes if table.name == name)
        rules = (rule for table in tables for host in table.hosts for rule in host.rules)
        yield from (rule.source.whole for rule in rules if rule.source is not None)
    if type_url == CLUSTER:
        yield from (one.source for one in scope.subsets if one.cluster == name and one.source is not None)
    if type_url == LISTENER:
        yield from _listening(scope, name)
    if type_url == SECRET and isinstance(scope, GatewayScope):
        yield from _decrypting(scope, name)


def _decrypting(scope: GatewayScope, secret: str) -> Iterator[Source]:
    """Where the server's own Gateway is not known, all that meet on its port."""
    for server in scope.servers:
        for one in server.tls:
            if any(resource.name == secret for resource in in_files(one)):
                own = [
                    each
                    for each in server.sources
                    if one.route and one.route.endswith(f".{each.name}.{each.namespace}")
                ]
                yield from own or server.sources


def _guarding(guards: Guards, slot: str) -> Iterator[Source]:
    if slot == _TOKENS:
        yield from (_source("RequestAuthentication", one.namespace, one.name) for one in guards.authentications)
    action = _ACTIONS.get(slot.rpartition(".")[2])
    chosen = (one for one in guards.policies if one.spec.action == action)
    yield from (_source("AuthorizationPolicy", one.namespace, one.name) for one in chosen)


def _source(kind: str, namespace: str, name: str) -> Source:
    return Source(kind=kind, namespace=namespace, name=name)


def _listening(scope: OutboundScope | GatewayScope, name: str) -> Iterator[Source]:
    if isinstance(scope, OutboundScope):
        found = (one for one in scope.listeners if f"{one.bind}_{one.port}" == name)
        yield from _bytes(rule for one in found for rule in one.tcp)
        return
    for server in scope.servers:
        if f"{server.bind}_{server.port}" == name:
            yield from server.sources
            yield from _bytes((*server.tcp, *(rule for one in server.tls for rule in one.tcp)))


def _bytes(rules: Iterable[TcpRule]) -> Iterator[Source]:
    yield from (rule.source.whole for rule in rules if rule.source is not None)
