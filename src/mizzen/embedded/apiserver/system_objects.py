"""What every cluster begins with: namespaces, the Services of API server and DNS, the cluster's certificate."""

from __future__ import annotations

import asyncio

from mizzen.embedded.apiserver import default_roles
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Api, Resource

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
API_ADDRESS, DNS_ADDRESS = "10.96.0.1", "10.96.0.10"
_PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
_CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
_CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
_API_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_DNS_LABELS = {
    "k8s-app": "kube-dns",
    "kubernetes.io/cluster-service": "true",
    "kubernetes.io/name": "CoreDNS",
}


async def write(api: Api, pki: Pki) -> None:
    """Create what is missing; what somebody changed stays changed."""
    for name in NAMESPACES:
        await _ensure(api, WELL_KNOWN.namespaces, {"metadata": {"name": name}})
    await _ensure(api, WELL_KNOWN.services, _api_service(), "default")
    await _ensure(api, WELL_KNOWN.endpoints, _api_endpoints(), "default")
    await _ensure(api, WELL_KNOWN.endpointslices, _api_slice(), "default")
    await _ensure(api, WELL_KNOWN.services, _dns_service(), "kube-system")
    for name, value in (("system-cluster-critical", 2000000000), ("system-node-critical", 2000001000)):
        await _ensure(api, _PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value})
    roles = [_ensure(api, _CLUSTER_ROLES, each) for each in default_roles.cluster_roles()]
    bindings = [_ensure(api, _CLUSTER_ROLE_BINDINGS, each) for each in default_roles.cluster_role_bindings()]
    await asyncio.gather(*roles, *bindings)


async def _ensure(api: Api, resource: Resource, obj: JSON, namespace: str | None = None) -> None:
    try:
        await api.create(resource, obj, namespace)
    except AlreadyExists:
        return


def _port(name: str, port: int, protocol: str = "TCP", target: int | None = None) -> JSON:
    return {"name": name, "port": port, "protocol": protocol, "targetPort": target or port}


def _api_service() -> JSON:
    spec = {"clusterIP": API_ADDRESS, "type": "ClusterIP", "ports": [_port("https", 443)]}
    return {"metadata": {"name": "kubernetes", "labels": dict(_API_LABELS)}, "spec": spec}


def _api_endpoints() -> JSON:
    ports = [{"name": "https", "port": 443, "protocol": "TCP"}]
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    subset = {"addresses": [{"ip": API_ADDRESS}], "ports": ports}
    return {"metadata": {"name": "kubernetes", "labels": labels}, "subsets": [subset]}


def _api_slice() -> JSON:
    return {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [API_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP"}],
    }


def _dns_service() -> JSON:
    ports = [_port("dns", 53, "UDP"), _port("dns-tcp", 53)]
    spec = {"clusterIP": DNS_ADDRESS, "type": "ClusterIP", "ports": ports}
    return {"metadata": {"name": "kube-dns", "labels": dict(_DNS_LABELS)}, "spec": spec}
