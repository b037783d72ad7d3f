"""Hosts of VirtualServices that no Service bears (`www.example.com`, `*.example.com`): virtual hosts of their own.

They stand in the table of port 80, and of every other port on which the same VirtualService also names a Service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mizzen.scope.hosts import bracketed, is_wildcard, matches
from mizzen.scope.model import Host, Protocol
from mizzen.scope.routes import Client, Hashing, MeshRoutes, Routing, http_rules
from mizzen.scope.services import Catalog, MeshService

HTTP_PORT = 80


def foreign_hosts(
    routes: MeshRoutes, services: Catalog, hashing: Hashing, client: Client
) -> Mapping[int, tuple[Host, ...]]:
    """By port; of two VirtualServices that name one host the older has it."""
    found: dict[int, dict[str, Host]] = {}
    for one in routes.routings:
        for port, names in _names(one, services):
            rules = http_rules(one, port, client, services, hashing)
            for name in names if rules else ():
                host = Host(name=f"{name}:{port}", domains=(bracketed(name),), rules=rules)
                found.setdefault(port, {}).setdefault(name, host)
    return {port: tuple(hosts.values()) for port, hosts in found.items()}


def _names(one: Routing, services: Catalog) -> Iterator[tuple[int, list[str]]]:
    """For each port, those names of a VirtualService that are no Service's there."""
    served = {host: _http_ports(services, host) for host in one.hosts}
    ports = frozenset().union(*served.values()) or frozenset({HTTP_PORT})
    for port in sorted(ports):
        names = [host for host in one.hosts if port not in served[host]]
        if names:
            yield port, names


def _http_ports(services: Catalog, host: str) -> frozenset[int]:
    if not is_wildcard(host):
        service = services.by_host.get(host)
        return _ports(service) if service else frozenset()
    covered = (service for name, service in services.by_host.items() if matches(name, host))
    return frozenset(port for service in covered for port in _ports(service))


def _ports(service: MeshService) -> frozenset[int]:
    return frozenset(port.number for port in service.ports if port.protocol.is_http or port.protocol is Protocol.AUTO)


def without_claimed(hosts: tuple[Host, ...], claimed: frozenset[str]) -> tuple[Host, ...]:
    """A name that a VirtualService gives outright is no longer a Service's: Envoy wants each name once per table."""
    return tuple(host if claimed.isdisjoint(host.domains) else _yielding(host, claimed) for host in hosts)


def _yielding(host: Host, claimed: frozenset[str]) -> Host:
    rest = tuple(domain for domain in host.domains if domain not in claimed)
    return Host(name=host.name, domains=rest, rules=host.rules, require_tls=host.require_tls)
