"""A mesh of any size as API objects: services with endpoints and Pods, VirtualServices and DestinationRules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]
ISTIO = "networking.istio.io/v1"


@dataclass(frozen=True, slots=True)
class Size:
    services: int = 1000
    endpoints: int = 10
    """Of each service; each is a Pod."""
    namespaces: int = 50
    rules: int = 500
    """Services with a VirtualService and a DestinationRule of two subsets."""

    def namespace(self, number: int) -> str:
        return f"ns-{number % self.namespaces}"


def address(number: int, replica: int) -> str:
    return f"10.{64 + number // 250}.{number % 250}.{replica + 1}"


def everything(size: Size) -> Iterator[JSON]:
    for number in range(size.namespaces):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{number}"}}
    for number in range(size.services):
        yield service(size, number)
        yield endpoint_slice(size, number)
        yield from (pod(size, number, replica) for replica in range(size.endpoints))
    for number in range(size.rules):
        yield virtual_service(size, number)
        yield destination_rule(size, number)


def service(size: Size, number: int) -> JSON:
    name = f"svc-{number}"
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    spec = {"clusterIP": f"10.96.{number // 250}.{number % 250 + 1}", "selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(size, number, name), "spec": spec}


def pod(size: Size, number: int, replica: int) -> JSON:
    labels = {"app": f"svc-{number}", "version": "v1" if replica < size.endpoints // 2 else "v2"}
    spec = {"serviceAccountName": "default", "containers": [{"name": "app", "image": "app", "ports": []}]}
    metadata = {**_meta(size, number, f"svc-{number}-{replica}"), "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def endpoint_slice(size: Size, number: int, moved: int = 0) -> JSON:
    """`moved` gives its first Pod another address."""
    places = [address(number, replica) for replica in range(size.endpoints)]
    places[0] = f"10.250.{moved // 250}.{moved % 250 + 1}" if moved else places[0]
    endpoints = [
        {
            "addresses": [place],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": f"svc-{number}-{replica}", "namespace": size.namespace(number)},
        }
        for replica, place in enumerate(places)
    ]
    metadata = _meta(size, number, f"svc-{number}-x")
    metadata["labels"] = {"kubernetes.io/service-name": f"svc-{number}"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def virtual_service(size: Size, number: int, seconds: int = 10) -> JSON:
    name = f"svc-{number}"
    route = [{"destination": {"host": name, "subset": subset}, "weight": 50} for subset in ("v1", "v2")]
    spec = {"hosts": [name], "http": [{"timeout": f"{seconds}s", "route": route}]}
    return {"apiVersion": ISTIO, "kind": "VirtualService", "metadata": _meta(size, number, name), "spec": spec}


def destination_rule(size: Size, number: int) -> JSON:
    name = f"svc-{number}"
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    spec = {"host": name, "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}}, "subsets": subsets}
    return {"apiVersion": ISTIO, "kind": "DestinationRule", "metadata": _meta(size, number, name), "spec": spec}


def _meta(size: Size, number: int, name: str) -> JSON:
    return {"name": name, "namespace": size.namespace(number)}
