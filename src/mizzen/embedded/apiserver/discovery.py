"""What a server says of itself: aggregated discovery (v2) and the older per-group documents.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType, Subresource
from mizzen.kube.api import JSON

AGGREGATED = {
    version: f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    for version in ("v2", "v2beta1")
}

VERSION: JSON = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+mizzen",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "linux/amd64",
}


def wanted_aggregation(accept: str) -> str | None:
    """ "v2" or "v2beta1" if the client prefers aggregated discovery."""
    for offer in accept.split(","):
        parts = dict(part.strip().partition("=")[::2] for part in offer.split(";"))
        if parts.get("as") == "APIGroupDiscoveryList" and parts.get("v") in AGGREGATED:
            return parts["v"]
    return None


def aggregated(registry: Registry, version: str, core: bool) -> JSON:
    """`APIGroupDiscoveryList` of /api (`core`) or /apis."""
    groups = {group: versions for group, versions in registry.versions().items() if (group == "") is core}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [_group_discovery(registry, group, versions) for group, versions in groups.items()],
    }


def _group_discovery(registry: Registry, group: str, versions: list[str]) -> JSON:
    described = [
        {
            "version": version,
            "resources": [_resource_discovery(each) for each in registry.of(group, version)],
            "freshness": "Current",
        }
        for version in versions
    ]
    metadata: JSON = {"name": group} if group else {}
    return {"metadata": {**metadata, "creationTimestamp": None}, "versions": described}


def _resource_discovery(kind: ResourceType) -> JSON:
    resource = kind.resource
    return {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
        **(
            {"subresources": list(map(partial(_subresource_discovery, kind), kind.subresources))}
            if kind.subresources
            else {}
        ),
    }


def _subresource_discovery(kind: ResourceType, sub: Subresource) -> JSON:
    group, _, version = (sub.api_version or kind.resource.api_version).rpartition("/")
    return {
        "subresource": sub.name,
        "responseKind": {"group": group, "version": version, "kind": sub.kind or kind.resource.kind},
        "verbs": list(sub.verbs),
    }


def core_versions(server_address: str) -> JSON:
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def group_list(registry: Registry) -> JSON:
    groups = [group_document(group, versions) for group, versions in registry.versions().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group_document(group: str, versions: list[str]) -> JSON:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def resource_list(registry: Registry, group: str, version: str) -> JSON:
    """`APIResourceList` of one group and version."""
    resources: list[Mapping[str, object]] = []
    for kind in registry.of(group, version):
        resources.append(_api_resource(kind))
        resources.extend(_api_subresource(kind, sub) for sub in kind.subresources)
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _api_resource(kind: ResourceType) -> JSON:
    return {
        "name": kind.resource.plural,
        "singularName": kind.singular,
        "namespaced": kind.resource.namespaced,
        "kind": kind.resource.kind,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
        **({"categories": list(kind.categories)} if kind.categories else {}),
    }


def _api_subresource(kind: ResourceType, sub: Subresource) -> JSON:
    document: JSON = {
        "name": f"{kind.resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": kind.resource.namespaced,
        "kind": sub.kind or kind.resource.kind,
        "verbs": list(sub.verbs),
    }
    if sub.api_version and sub.api_version != kind.resource.api_version:
        document["group"], _, document["version"] = sub.api_version.rpartition("/")
    return document
