"""What the downward API says about a Pod: fieldRef and resourceFieldRef. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mizzen.embedded.node import quantity
from mizzen.embedded.node.facts import container_named
from mizzen.kube.api import JSON


class Unresolved(Exception):
    """Something a container asks for is not there (yet); the message names it."""


@dataclass(frozen=True, slots=True)
class PodAddresses:
    """One of each IP family; the first is *the* address."""

    pod: tuple[str, ...]
    host: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What limits.* says where the container has no limit: all of the node."""

    cpu: str
    memory: str


_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


def field(pod: JSON, path: str, addresses: PodAddresses) -> str:
    """The value of a `fieldRef.fieldPath`. Raises Unresolved for a path that Kubernetes does not offer."""
    metadata, spec = pod["metadata"], pod["spec"]
    if subscript := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    simple: dict[str, str] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": next(iter(addresses.pod), ""),
        "status.podIPs": ",".join(addresses.pod),
        "status.hostIP": next(iter(addresses.host), ""),
        "status.hostIPs": ",".join(addresses.host),
    }
    if path in ("metadata.labels", "metadata.annotations"):
        return _lines(metadata.get(path.removeprefix("metadata.")) or {})
    if path not in simple:
        raise Unresolved(f"fieldPath {path!r} is not supported")
    return simple[path]


def _lines(values: Mapping[str, str]) -> str:
    """`key="value"` per line, sorted, quoted as Go quotes."""
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(values.items()))


def resource_field(pod: JSON, reference: JSON, own: str, capacity: Capacity) -> str:
    """The value of a `resourceFieldRef` of container `own`. Raises Unresolved."""
    name = reference.get("containerName") or own
    container = container_named(pod, name)
    if container is None:
        raise Unresolved(f"resourceFieldRef: there is no container {name!r}")
    section, _, resource = str(reference["resource"]).partition(".")
    if section not in ("limits", "requests") or not resource:
        raise Unresolved(f"resource {reference['resource']!r} is not supported")
    amounts = container.get("resources") or {}
    value = (amounts.get(section) or {}).get(resource)
    if value is None and section == "limits":
        value = {"cpu": capacity.cpu, "memory": capacity.memory}.get(resource)
    if value is None:
        value = (amounts.get("limits") or {}).get(resource, "0")
    try:
        return str(quantity.divided(value, reference.get("divisor") or 1))
    except ValueError as error:
        raise Unresolved(f"{reference['resource']} of container {name!r}: {error}") from error
