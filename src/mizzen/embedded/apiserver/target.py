"""What a URL path means: a resource type, and which of its objects.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.kube.api import Resource


@dataclass(frozen=True, slots=True)
class Target:
    """`name` is "" for a collection; `rest` is what follows the subresource (only `proxy` has that)."""

    kind: ResourceType
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""

    @property
    def resource(self) -> Resource:
        return self.kind.resource

    @property
    def key(self) -> Key:
        return Key(self.kind.storage, self.namespace, self.name)

    def named(self, name: str) -> Target:
        return Target(self.kind, self.namespace, name, self.subresource)


def parse(path: str, registry: Registry) -> Target:
    """The target of a path under /api/v1/ or /apis/GROUP/VERSION/. Raises 404."""
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        (group, version), rest = ("", parts[1]), parts[2:]
    else:
        (group, version), rest = (parts[1], parts[2]), parts[3:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and registry.find(group, version, rest[2]):
        namespace, rest = rest[1], rest[2:]
    kind = registry.find(group, version, rest[0])
    if kind is None:
        raise errors.no_such_path()
    return _target(kind, namespace, rest[1:])


def _target(kind: ResourceType, namespace: str, rest: list[str]) -> Target:
    name, subresource = [*rest, "", ""][:2]
    if bool(namespace) > kind.resource.namespaced:
        raise errors.no_such_path()
    if name and kind.resource.namespaced and not namespace:
        raise errors.no_such_path()
    if subresource and kind.subresource(subresource) is None:
        raise errors.no_such_path()
    if len(rest) > 2 and subresource != "proxy":
        raise errors.no_such_path()
    return Target(kind, namespace, name, subresource, "/".join(rest[2:]))
