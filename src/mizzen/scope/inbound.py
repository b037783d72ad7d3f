"""What a workload serves through its sidecar: one entry per container port that some Service leads to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mizzen.api.base import Problem
from mizzen.api.mesh import MeshConfig
from mizzen.scope.destination_rules import Lookup, lookup, rulebook
from mizzen.scope.drains import drain_mark
from mizzen.scope.guards import guards
from mizzen.scope.memo import Memo
from mizzen.scope.model import Guards, Inbound, InboundScope
from mizzen.scope.mtls import WorkloadModes, workload_modes
from mizzen.scope.problems import problem
from mizzen.scope.services import Catalog, MeshPort, MeshService, catalog
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.subsets import policy_in_force
from mizzen.scope.view import InboundView


def inbound(snapshot: Snapshot, view: InboundView) -> InboundScope:
    """The ports of one workload. The same object as before when nothing it depends on changed."""
    memo = snapshot.memo
    services = memo(own_services, catalog(snapshot), view.namespace, frozenset(view.labels))
    rules = lookup(memo, rulebook(snapshot), view.namespace, frozenset(), view.namespace)
    ports = frozenset(view.container_ports)
    modes = workload_modes(snapshot, view.namespace, frozenset(view.labels))
    guarding = guards(snapshot, view.namespace, frozenset(view.labels))
    drained = drain_mark(view.drained, guarding)
    known = (view.ipv6, view.foreign_certificates)
    return memo(_inbound_scope, memo, services, ports, rules, modes, guarding, drained, snapshot.mesh, *known)


def own_services(services: Catalog, namespace: str, labels: frozenset[tuple[str, str]]) -> tuple[MeshService, ...]:
    """The Services that select a Pod, oldest first."""
    return selecting(services.by_namespace.get(namespace, ()), dict(labels))


def selecting(services: Iterable[MeshService], labels: Mapping[str, str]) -> tuple[MeshService, ...]:
    """The Services whose selector these labels meet, oldest first. No selector selects nothing."""
    found = [
        service
        for service in services
        if service.object.spec.selector and service.object.spec.selector.items() <= labels.items()
    ]
    return tuple(sorted(found, key=lambda service: service.object.age_key))


def container_port(port: MeshPort, named: Mapping[str, int]) -> int | None:
    """The number behind a targetPort; None when the Pod has no port of that name."""
    return port.target if isinstance(port.target, int) else named.get(port.target)


def _inbound_scope(
    memo: Memo,
    services: tuple[MeshService, ...],
    container_ports: frozenset[tuple[str, int]],
    rules: Lookup,
    modes: WorkloadModes,
    guarding: Guards,
    drained: str,
    mesh: MeshConfig,
    ipv6: bool,
    foreign_certificates: bool,
) -> InboundScope:
    taken: dict[int, tuple[MeshService, MeshPort]] = {}
    problems: list[Problem] = []
    for service, port, number in _served(services, dict(container_ports)):
        first = taken.setdefault(number, (service, port))
        if first[1].protocol is not port.protocol:
            problems.append(_conflict(number, first, (service, port)))
    return InboundScope(
        ports=tuple(_inbound(memo, number, *taken[number], rules, modes) for number in sorted(taken)),
        mesh=mesh,
        tls=modes.mode,
        other_ports=tuple((port, mode) for port, mode in modes.by_port if port not in taken),
        guards=guarding,
        drained=drained,
        problems=(*problems, *guarding.problems),
        ipv6=ipv6,
        foreign_certificates=foreign_certificates,
    )


def _served(services: Iterable[MeshService], named: Mapping[str, int]) -> Iterator[tuple[MeshService, MeshPort, int]]:
    for service in services:
        for port in service.ports:
            number = container_port(port, named)
            if number is not None:
                yield service, port, number


def _inbound(
    memo: Memo, number: int, service: MeshService, port: MeshPort, rules: Lookup, modes: WorkloadModes
) -> Inbound:
    rule = rules.rule(service.host)
    return Inbound(
        port=number,
        service_port=port.number,
        protocol=port.protocol,
        host=service.host,
        policy=policy_in_force(memo, rule, port.number) if rule else None,
        tls=modes.at(number),
    )


def _conflict(number: int, kept: tuple[MeshService, MeshPort], other: tuple[MeshService, MeshPort]) -> Problem:
    return problem(
        other[0].object,
        "IST0116",
        "spec.ports",
        f"Port {number} of the Pods is {kept[1].protocol} for the older Service {kept[0].name}, and "
        f"{other[1].protocol} here; {kept[1].protocol} holds. Give the ports of both Services the same protocol.",
    )
