"""Discovery requests and responses on the wire.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/discovery/v3/discovery.proto

Requests are decoded to plain structs with interned names, because thousands of sessions remember the same ones.
Responses are written by concatenating length-delimited fields around bodies that exist already: a 400 KB
RouteConfiguration is copied once, not parsed and serialised again for each proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from sys import intern
from typing import Any

from google.protobuf.json_format import MessageToDict

from mizzen.envoy.messages import DeltaDiscoveryRequest, DiscoveryRequest
from mizzen.envoy.resources import Resource

_SHORT = 256
"""Bytes of a request that is an acknowledgement, almost certainly."""


@dataclass(frozen=True, slots=True)
class Node:
    """Who a proxy says it is: `sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.cluster.local` and its metadata."""

    id: str
    cluster: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Type, IP, pod name and namespace. Raises ValueError for an id of another form."""
        match self.id.split("~"):
            case [kind, address, workload, domain] if "." in workload:
                pod, _, namespace = workload.rpartition(".")
                if domain.split(".")[0] != namespace:
                    raise ValueError(
                        f"node id {self.id!r} names two namespaces, {namespace!r} and {domain.split('.')[0]!r}"
                    )
                return kind, address, pod, namespace
        raise ValueError(f"node id {self.id!r} is not of the form TYPE~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN")


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    type_url: str
    node: Node | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None
    """The text of `error_detail`; not None makes the request a NACK."""


@dataclass(frozen=True, slots=True)
class SotwRequest:
    type_url: str
    node: Node | None = None
    version: str = ""
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str | None = None


def delta_request(data: bytes) -> DeltaRequest:
    """Raises google.protobuf.message.DecodeError."""
    return _known(data) if len(data) <= _SHORT else _decoded(data)


def _decoded(data: bytes) -> DeltaRequest:
    message = DeltaDiscoveryRequest.FromString(data)
    return DeltaRequest(
        type_url=intern(message.type_url),
        node=_node(message),
        subscribe=_interned(message.resource_names_subscribe),
        unsubscribe=_interned(message.resource_names_unsubscribe),
        initial_versions={intern(name): intern(told) for name, told in message.initial_resource_versions.items()},
        nonce=message.response_nonce,
        error=_error(message),
    )


_known = lru_cache(maxsize=1_000)(_decoded)
"""All proxies acknowledge the same response with the same bytes."""


def sotw_request(data: bytes) -> SotwRequest:
    """Raises google.protobuf.message.DecodeError."""
    message = DiscoveryRequest.FromString(data)
    return SotwRequest(
        type_url=intern(message.type_url),
        node=_node(message),
        version=message.version_info,
        names=_interned(message.resource_names),
        nonce=message.response_nonce,
        error=_error(message),
    )


def _interned(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(intern, names))


def _node(message: Any) -> Node | None:
    if not message.HasField("node"):
        return None
    return Node(message.node.id, message.node.cluster, MessageToDict(message.node.metadata))


def _error(message: Any) -> str | None:
    return message.error_detail.message if message.HasField("error_detail") else None


def delta_response(type_url: str, resources: Iterable[Resource], removed: Iterable[str], nonce: str) -> bytes:
    """A serialised DeltaDiscoveryResponse."""
    return b"".join(
        (
            *(_field(2, _delta_resource(type_url, resource)) for resource in resources),
            _field(4, type_url.encode()),
            _field(5, nonce.encode()),
            *(_field(6, name.encode()) for name in removed),
        )
    )


def sotw_response(type_url: str, resources: Iterable[Resource], version: str, nonce: str) -> bytes:
    """A serialised DiscoveryResponse."""
    return b"".join(
        (
            _field(1, version.encode()),
            *(_field(2, _any(type_url, resource.body)) for resource in resources),
            _field(4, type_url.encode()),
            _field(5, nonce.encode()),
        )
    )


def _delta_resource(type_url: str, resource: Resource) -> bytes:
    """envoy.service.discovery.v3.Resource"""
    body = _any(type_url, resource.body)
    return b"".join((_field(1, resource.version.encode()), _field(2, body), _field(3, resource.name.encode())))


def _any(type_url: str, value: bytes) -> bytes:
    return _field(1, type_url.encode()) + (_field(2, value) if value else b"")


def _field(number: int, value: bytes) -> bytes:
    """One length-delimited field."""
    size = len(value)
    if size < 0x80:
        return bytes((number << 3 | 2, size)) + value
    if size < 0x4000:
        return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7)) + value
    prefix = bytearray((number << 3 | 2,))
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value
