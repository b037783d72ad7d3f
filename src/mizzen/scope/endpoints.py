"""The addresses behind a cluster. Apart from scopes: a Pod that comes or goes touches its own clusters alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mizzen.api.core import Node, Pod
from mizzen.api.discovery import SERVICE_NAME, EndpointConditions, EndpointSlice
from mizzen.api.discovery import Endpoint as SliceEndpoint
from mizzen.scope.destination_rules import lookup, rulebook
from mizzen.scope.model import Endpoint, Subset, TlsMode
from mizzen.scope.mtls import Peers, workload_modes
from mizzen.scope.services import MeshPort, MeshService, catalog
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.workloads import canonical_name, canonical_revision, workload_name

CLUSTER_ID = "Kubernetes"
TLS_MODE, MUTUAL = "security.istio.io/tlsMode", "istio"
"""A Pod's label, and its value where there is a sidecar."""
REGION, ZONE, SUBZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"
Labels = tuple[tuple[str, str], ...]


def slice_owner(one: EndpointSlice) -> Iterable[tuple[str, str]]:
    """Namespace and name of the Service that a slice belongs to."""
    name = one.metadata.labels.get(SERVICE_NAME)
    return ((one.metadata.namespace, name),) if name else ()


def endpoints(snapshot: Snapshot, host: str, port: int, subset: str = "", namespace: str = "") -> tuple[Endpoint, ...]:
    """The endpoints of a cluster as clients in `namespace` see it: their DestinationRule says what the subset is.

    Empty for what is unknown: a host, a port, a subset.
    """
    labels: Labels | None = ()
    if subset:
        service = catalog(snapshot).by_host.get(host)
        owner = service.namespace if service else ""
        rule = lookup(snapshot.memo, rulebook(snapshot), namespace, frozenset(), owner).rule(host)
        found = rule.subset(subset) if rule else None
        labels = tuple(sorted(found.spec.labels.items())) if found else None
    return endpoints_with(snapshot, host, port, labels) if labels is not None else ()


def endpoints_with(snapshot: Snapshot, host: str, port: int, labels: Labels = ()) -> tuple[Endpoint, ...]:
    """The endpoints whose Pods carry all `labels` (of `Subset.labels`), sorted by address."""
    service = catalog(snapshot).by_host.get(host)
    served = service.port(port) if service else None
    if service is None or served is None:
        return ()
    wanted = dict(labels).items()
    found = {
        endpoint.address: endpoint
        for endpoint, pod_labels in _all(snapshot, service, served)
        if wanted <= pod_labels.items()
    }
    return tuple(found[address] for address in sorted(found))


def endpoints_of(snapshot: Snapshot, subset: Subset) -> tuple[Endpoint, ...]:
    """The endpoints of one cluster that somebody was told of."""
    found = endpoints_with(snapshot, subset.host, subset.port, subset.labels)
    return tuple(one for one in found if one.tls_mode == MUTUAL) if subset.only_mtls else found


def _all(snapshot: Snapshot, service: MeshService, port: MeshPort) -> Iterator[tuple[Endpoint, Mapping[str, str]]]:
    """Every endpoint of a port, with its Pod's labels. A Pod that answers in both of a Service's IP families is one,
    by its address of the Service's first family."""
    entries = _entries(snapshot, service, port)
    first = service.first_family
    others = {key: entry.addresses for key, family, entry in entries if family != first and key.pod}
    for key, family, entry in entries:
        if family != first and key.pod and key not in others:
            continue
        more = others.pop(key, ())[:1] if family == first else ()
        pod = _pod(snapshot, service.namespace, entry)
        yield _endpoint(snapshot, entry, key.port, pod, more), pod.metadata.labels if pod else {}


class _Key(NamedTuple):
    """What an address of the other family has in common with the first."""

    pod: str
    """Empty for what is no Pod: there is no telling then."""
    port: int


def _entries(snapshot: Snapshot, service: MeshService, port: MeshPort) -> list[tuple[_Key, str, SliceEndpoint]]:
    """What may be called, with its IP family; those of the Service's first family come first."""
    unready_too = service.object.spec.publish_not_ready_addresses
    slices = snapshot.table(EndpointSlice).grouped(slice_owner).get((service.namespace, service.name), ())
    found = []
    for one in sorted(slices, key=lambda one: one.address_type != service.first_family):
        number = next((entry.port for entry in one.ports if entry.name == port.name), None)
        for entry in one.endpoints if number is not None else ():
            if entry.addresses and (unready_too or _is_ready(entry.conditions)):
                target = entry.target_ref
                name = target.name if target and target.kind == "Pod" else ""
                found.append((_Key(name, number or 0), one.address_type, entry))
    return found


def _is_ready(conditions: EndpointConditions) -> bool:
    return conditions.ready is not False


def _pod(snapshot: Snapshot, namespace: str, entry: SliceEndpoint) -> Pod | None:
    target = entry.target_ref
    if target is None or target.kind != "Pod":
        return None
    return snapshot.get(Pod, target.namespace or namespace, target.name)


def _endpoint(snapshot: Snapshot, entry: SliceEndpoint, port: int, pod: Pod | None, more: tuple[str, ...]) -> Endpoint:
    node_name = entry.node_name or (pod.spec.node_name if pod else "")
    node = snapshot.get(Node, "", node_name)
    place = node.metadata.labels if node else {}
    return Endpoint(
        address=entry.addresses[0],
        port=port,
        more=more,
        ready=_is_ready(entry.conditions),
        region=place.get(REGION, ""),
        zone=entry.zone or place.get(ZONE, ""),
        subzone=place.get(SUBZONE, ""),
        tls_mode=MUTUAL if pod and takes_mtls(snapshot, pod, port) else "",
        workload=_workload(snapshot, pod) if pod else "",
    )


def takes_mtls(snapshot: Snapshot, pod: Pod, port: int) -> bool:
    """Whether a container port is to be called with mesh TLS: there is a sidecar, and no policy forbids it."""
    labels = pod.metadata.labels
    if labels.get(TLS_MODE) != MUTUAL:
        return False
    modes = workload_modes(snapshot, pod.metadata.namespace, frozenset(labels.items()))
    return modes.at(port) is not TlsMode.DISABLE


def _workload(snapshot: Snapshot, pod: Pod) -> str:
    name = workload_name(snapshot, pod)
    labels = pod.metadata.labels
    parts = (name, pod.metadata.namespace, canonical_name(labels, name), canonical_revision(labels), CLUSTER_ID)
    return ";".join(parts)


def peers(snapshot: Snapshot, services: Iterable[MeshService]) -> Peers:
    """Whom callers find behind these services: one object as long as that stays the same."""
    accounts: set[tuple[str, str]] = set()
    plain: set[tuple[str, int]] = set()
    for service in services:
        found, without = behind(snapshot, service)
        accounts.update((service.host, account) for account in found)
        plain.update((service.host, port) for port in without)
    return snapshot.memo(Peers, frozenset(accounts), frozenset(plain), snapshot.mesh.enable_auto_mtls)


def behind(snapshot: Snapshot, service: MeshService) -> tuple[frozenset[str], frozenset[int]]:
    """The service accounts of a service's Pods, ready or not, and its ports where some endpoint takes no mesh TLS."""
    accounts: set[str] = set()
    plain: set[int] = set()
    for one in snapshot.table(EndpointSlice).grouped(slice_owner).get((service.namespace, service.name), ()):
        numbers = {entry.name: entry.port or 0 for entry in one.ports}
        ports = [(port.number, numbers[port.name]) for port in service.ports if port.name in numbers]
        for entry in one.endpoints:
            pod = _pod(snapshot, service.namespace, entry)
            if pod is not None:
                accounts.add(pod.account)
            plain.update(port for port, number in ports if pod is None or not takes_mtls(snapshot, pod, number))
    return frozenset(accounts), frozenset(plain)
