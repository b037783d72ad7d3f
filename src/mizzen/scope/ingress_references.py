"""What Ingresses refer to that is not there."""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.api.base import Problem
from mizzen.api.ingress import Ingress, IngressBackend, IngressClass
from mizzen.scope.hosts import service_host
from mizzen.scope.ingresses import CLASS_ANNOTATION, CONTROLLER, backends, is_served, translated
from mizzen.scope.problems import problem
from mizzen.scope.services import Catalog, MeshService, catalog
from mizzen.scope.snapshot import Snapshot

NOT_FOUND = "IST0101"


def ingress_problems(snapshot: Snapshot) -> tuple[Problem, ...]:
    """Of all Ingresses of ours, and of those that name our class before it is there."""
    services = catalog(snapshot)
    dangling = [
        one for ingress in translated(snapshot).ingresses for one in snapshot.memo(_backends, services, ingress)
    ]
    unclassed = (_without_class(snapshot, ingress) for ingress in snapshot.table(Ingress))
    return (*dangling, *(found for found in unclassed if found is not None))


def ingress_references(snapshot: Snapshot, ingress: Ingress) -> tuple[Problem, ...]:
    """The same about one of them, stored or about to be; () for those of other controllers."""
    if is_served(ingress, snapshot.table(IngressClass), snapshot.mesh):
        return _backends(catalog(snapshot), ingress)
    found = _without_class(snapshot, ingress)
    return (found,) if found is not None else ()


def _without_class(snapshot: Snapshot, ingress: Ingress) -> Problem | None:
    name, known = ingress.spec.ingress_class_name, snapshot.mesh.ingress_class
    named_otherwise = name != known or CLASS_ANNOTATION in ingress.metadata.annotations
    if (
        named_otherwise
        or snapshot.mesh.ingress_controller_mode == "OFF"
        or snapshot.get(IngressClass, "", known) is not None
    ):
        return None
    message = (
        f"There is no IngressClass {name}, so nobody serves this Ingress. Make one of that name with "
        f"spec.controller {CONTROLLER}."
    )
    return problem(ingress, NOT_FOUND, "spec.ingressClassName", message)


def _backends(services: Catalog, ingress: Ingress) -> tuple[Problem, ...]:
    return tuple(found for path, backend in backends(ingress) for found in _backend(services, ingress, path, backend))


def _backend(services: Catalog, ingress: Ingress, path: str, backend: IngressBackend) -> Iterator[Problem]:
    if backend.service is None:
        return  # The ledger has a line about it.
    name, port = backend.service.name, backend.service.port
    service = services.by_host.get(service_host(name, ingress.namespace))
    if service is None:
        message = f"There is no Service {name} in namespace {ingress.namespace}; until there is, requests get 503."
        yield problem(ingress, NOT_FOUND, f"{path}.service.name", message)
    elif not service.alias_of and not _has(service, port.name, port.number):
        ports = ", ".join(f"{one.number} ({one.name})" if one.name else f"{one.number}" for one in service.ports)
        message = f"Service {name} has no port {port.name or port.number}, only {ports}; requests to it get 503."
        yield problem(ingress, NOT_FOUND, f"{path}.service.port", message)


def _has(service: MeshService, name: str | None, number: int | None) -> bool:
    return any(port.number == number or (name and port.name == name) for port in service.ports)
