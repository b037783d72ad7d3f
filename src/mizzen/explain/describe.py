"""What concerns a Pod or a Service: its ports, rules, routes, policies and mTLS: `x describe`.

https://istio.io/latest/docs/ops/diagnostic-tools/istioctl-describe/
Which rule and which VirtualService are in force is read out of the Pod's own proxy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from msgspec import field

from mizzen.api.base import Model
from mizzen.api.core import Pod, Service, ServicePort
from mizzen.api.decode import convert
from mizzen.api.networking import DestinationRule, Gateway, VirtualService
from mizzen.api.peer_authentication import PeerAuthentication
from mizzen.explain.authorization import enforced_rules
from mizzen.explain.describe_rules import RoutesDescription, RuleDescription, routes_description, rule_description
from mizzen.explain.proxy_config import cluster_messages, route_messages
from mizzen.scope.hosts import service_host
from mizzen.scope.inbound import selecting
from mizzen.scope.model import Protocol
from mizzen.scope.mtls import workload_modes
from mizzen.scope.opened import selected_gateways
from mizzen.scope.routes import MESH, gateway_names
from mizzen.scope.services import catalog, selected_protocol
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import container_ports
from mizzen.scope.workloads import NAME_LABELS, REVISION_LABELS

JSON: TypeAlias = dict[str, Any]
PROXY = "istio-proxy"
REQUIREMENTS = "https://istio.io/latest/docs/ops/deployment/application-requirements/"
_SOURCE = re.compile(r"/namespaces/(?P<namespace>[^/]+)/(?P<kind>[^/]+)/(?P<name>[^/]+)\Z")
_WORDS = {Protocol.GRPC_WEB: "GRPC-Web", Protocol.MONGO: "Mongo", Protocol.MYSQL: "MySQL", Protocol.REDIS: "Redis"}


class PodDescription(Model):
    name: str
    namespace: str
    revision: str = ""
    ports: tuple[str, ...] = ()
    """`9080 (reviews)`, `53/UDP (dns)`."""
    warnings: tuple[str, ...] = ()


class PortDescription(Model):
    """One port of a Service, and what holds there."""

    port: int
    name: str = ""
    protocol: str = ""
    target: int | None = None
    """None: the Pod has no port of the name that the Service asks for."""
    destination_rule: RuleDescription | None = None
    virtual_service: RoutesDescription | None = None
    rbac_policies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ServiceDescription(Model):
    name: str
    namespace: str
    ports: tuple[PortDescription, ...] = ()


class PeerAuthenticationDescription(Model):
    mode: str
    ports: Mapping[int, str] = field(default_factory=dict)
    applied: tuple[str, ...] = ()
    """`NAME.NAMESPACE`"""


class ExposedDescription(Model):
    """A way in from outside."""

    gateway: str
    """`NAMESPACE/NAME`"""
    urls: tuple[str, ...]
    virtual_service: RoutesDescription


class Description(Model):
    pod: PodDescription | None = None
    services: tuple[ServiceDescription, ...] = ()
    peer_authentication: PeerAuthenticationDescription | None = None
    exposed: tuple[ExposedDescription, ...] = ()
    gateways_asked: bool = True
    """Whether there is an ingress gateway at all."""


class Edge(Model):
    """An ingress gateway: one of its Pods, the dump of its proxy, and the Services that lead to it."""

    pod: JSON
    dump: JSON
    services: tuple[Service, ...] = ()


def pod_description(pod: JSON, *, unmeshed_is_fine: bool = False) -> PodDescription:
    """Of a Pod as the API server has it."""
    metadata, annotations = pod["metadata"], pod["metadata"].get("annotations", {})
    return PodDescription(
        name=metadata["name"],
        namespace=metadata["namespace"],
        revision=annotations.get("istio.io/rev") or _injected_revision(annotations),
        ports=tuple(_ports(pod)),
        warnings=tuple(_warnings(pod, unmeshed_is_fine)),
    )


def _injected_revision(annotations: JSON) -> str:
    try:
        status = json.loads(annotations.get("sidecar.istio.io/status", "{}"))
    except ValueError:
        return ""
    return str(status.get("revision", ""))


def _ports(pod: JSON) -> Iterator[str]:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", ()):
            protocol = port.get("protocol", "TCP")
            shown = "" if protocol == "TCP" else f"/{protocol}"
            yield f"{port['containerPort']}{shown} ({container['name']})"


def _warnings(pod: JSON, unmeshed_is_fine: bool) -> Iterator[str]:
    name, spec, status = pod["metadata"]["name"], pod["spec"], pod.get("status", {})
    users = [one.get("securityContext", {}).get("runAsUser") for one in spec["containers"] if one["name"] != PROXY]
    if 1337 in (*users, spec.get("securityContext", {}).get("runAsUser")):
        yield "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy."
    if status.get("phase") != "Running":
        yield f"Pod is not Running ({status.get('phase', 'Unknown')})"
        return
    for kind, key in (("Container", "containerStatuses"), ("Init Container", "initContainerStatuses")):
        for one in status.get(key, ()):
            if not one.get("ready"):
                yield f"WARNING: Pod {name} {kind} {one['name']} NOT READY"
    if unmeshed_is_fine:
        return
    if not is_meshed(pod):
        yield f"WARNING: {name} is not part of mesh; no Istio sidecar"
        return
    labels = pod["metadata"].get("labels", {})
    for what, known in (("name", NAME_LABELS), ("revision", REVISION_LABELS)):
        if not any(labels.get(key) for key in known):
            yield f"Suggestion: add required service {what} label for Istio telemetry. See {REQUIREMENTS}."


def is_meshed(pod: JSON) -> bool:
    containers = (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ()))
    return any(one["name"] == PROXY for one in containers)


def services_of(snapshot: Snapshot, pod: JSON) -> list[Service]:
    """Those that select a Pod, by name."""
    metadata = pod["metadata"]
    found = selecting(catalog(snapshot).by_namespace.get(metadata["namespace"], ()), metadata.get("labels", {}))
    return sorted((one.object for one in found), key=lambda service: service.name)


def service_description(
    snapshot: Snapshot, service: Service, pod: JSON, pods: Iterable[JSON], dump: JSON
) -> ServiceDescription:
    """`pod`: whose proxy was asked for `dump`; `pods`: all that matter for subsets."""
    labels = [one["metadata"].get("labels", {}) for one in pods]
    named = dict(container_ports(convert(pod, Pod)))
    ports = (port for port in service.spec.ports if port.protocol == "TCP")
    return ServiceDescription(
        name=service.name,
        namespace=service.namespace,
        ports=tuple(_port(snapshot, service, port, named, labels, dump) for port in ports),
    )


def _port(
    snapshot: Snapshot, service: Service, port: ServicePort, named: dict[str, int], pods: list[JSON], dump: JSON
) -> PortDescription:
    host = service_host(service.name, service.namespace)
    warnings: list[str] = []
    rule = _rule_in_force(snapshot, host, port.port, dump, warnings)
    told = rule_description(rule, pods) if rule else None
    routes = _routes_in_force(snapshot, host, port.port, dump, warnings)
    target = port.target_port if port.target_port is not None else port.port
    return PortDescription(
        port=port.port,
        name=port.name,
        protocol=_protocol(port),
        target=target if isinstance(target, int) else named.get(target),
        destination_rule=told,
        virtual_service=routes_description(routes, host, told) if routes else None,
        rbac_policies=tuple(enforced_rules(dump)),
        warnings=tuple(warnings),
    )


def _protocol(port: ServicePort) -> str:
    if not port.name and not port.app_protocol:
        return "auto-detect"
    found = selected_protocol(port.port, port.name, port.app_protocol, port.protocol)
    return "UnsupportedProtocol" if found is Protocol.AUTO else _WORDS.get(found, found.value.upper())


def _rule_in_force(snapshot: Snapshot, host: str, port: int, dump: JSON, warnings: list[str]) -> DestinationRule | None:
    wanted = f"outbound|{port}||{host}"
    cluster = next((one for one in cluster_messages(dump) if one["name"] == wanted), {})
    source = _source(cluster)
    found = snapshot.get(DestinationRule, *source) if source else None
    if source and found is None:
        warnings.append(_stale("destination rule", source))
    return found


def _routes_in_force(
    snapshot: Snapshot, host: str, port: int, dump: JSON, warnings: list[str]
) -> VirtualService | None:
    source = next(map(_source, _routes_to(host, port, dump)), None)
    found = snapshot.get(VirtualService, *source) if source else None
    if source and found is None:
        warnings.append(_stale("virtual service", source))
    return found


def _stale(kind: str, source: tuple[str, str]) -> str:
    return f"WARNING: Proxy is stale; it references to non-existent {kind} {source[1]}.{source[0]}"


def _source(message: JSON) -> tuple[str, str] | None:
    """Namespace and name of the object that decided a cluster or a route."""
    config = message.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    found = _SOURCE.search(config)
    return (found["namespace"], found["name"]) if found else None


def _routes_to(host: str, port: int, dump: JSON) -> Iterator[JSON]:
    """Routes for a service: under its own name in a sidecar's tables, or to its clusters in a gateway's."""
    cluster = re.compile(rf"outbound\|{port}\|[^|]*\|{re.escape(host)}\Z")
    for table in route_messages(dump):
        name = table.get("name", "")
        if name not in (str(port), f"{host}:{port}") and not name.startswith(("http.", "https.")):
            continue
        for virtual_host in table.get("virtual_hosts", ()):
            own = host in virtual_host.get("domains", ())
            for route in virtual_host.get("routes", ()):
                if own or any(map(cluster.match, _clusters(route))):
                    yield route


def _clusters(route: JSON) -> list[str]:
    action = route.get("route", {})
    shares = action.get("weighted_clusters", {}).get("clusters", ())
    return [action["cluster"]] if "cluster" in action else [one["name"] for one in shares]


def peer_authentication(snapshot: Snapshot, pod: JSON) -> PeerAuthenticationDescription:
    """The mode of a Pod, and the policies that have to do with it: those of the root namespace first."""
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels", {})
    modes = workload_modes(snapshot, namespace, frozenset(labels.items()))
    root = snapshot.mesh.root_namespace
    applied = [
        one
        for one in sorted(snapshot.table(PeerAuthentication), key=lambda one: (one.namespace != root, one.age_key))
        if one.namespace in (root, namespace) and _selects(one, labels)
    ]
    return PeerAuthenticationDescription(
        mode=modes.mode.value,
        ports={port: mode.value for port, mode in modes.by_port},
        applied=tuple(f"{one.name}.{one.namespace}" for one in applied),
    )


def _selects(policy: PeerAuthentication, labels: JSON) -> bool:
    selector = policy.spec.selector
    return selector is None or selector.match_labels.items() <= labels.items()


def exposed(
    snapshot: Snapshot, services: Iterable[Service], pods: Iterable[JSON], edges: Iterable[Edge]
) -> Iterator[ExposedDescription]:
    """Gateways at which VirtualServices lead to one of the services; each once."""
    labels = [one["metadata"].get("labels", {}) for one in pods]
    every, seen = list(services), set[tuple[str, str, str]]()
    for edge in edges:
        for service in every:
            host = service_host(service.name, service.namespace)
            for port in service.spec.ports:
                rule = _rule_in_force(snapshot, host, port.port, edge.dump, [])
                routes = _routes_in_force(snapshot, host, port.port, edge.dump, [])
                told = rule_description(rule, labels) if rule else None
                for gateway in _gateways(snapshot, routes, edge) if routes else ():
                    key = (gateway, host, routes.name if routes else "")
                    if routes and key not in seen:
                        seen.add(key)
                        described = routes_description(routes, host, told)
                        yield ExposedDescription(gateway=gateway, urls=tuple(_urls(edge)), virtual_service=described)


def _gateways(snapshot: Snapshot, routes: VirtualService, edge: Edge) -> Iterator[str]:
    """Of a VirtualService's gateways those that this Pod serves."""
    served = selected_gateways(snapshot.table(Gateway), edge.pod["metadata"].get("labels", {}))
    names = {f"{one.namespace}/{one.name}" for one in served}
    yield from (
        name for name in gateway_names(routes.spec.gateways, routes.namespace) if name != MESH and name in names
    )


def _urls(edge: Edge) -> Iterator[str]:
    for service in edge.services:
        given = service.status.load_balancer.ingress
        address = (given[0].ip if given else "") or edge.pod.get("status", {}).get("hostIP", "") or "unknown"
        for port in service.spec.ports:
            if port.protocol == "TCP" and port.name in ("http", "http2"):
                yield f"http://{address}{'' if port.port == 80 else f':{port.port}'}"
