"""What one kind of proxy is to be told, addressed by content.

A resource's version is a hash of its bytes, so it is the same after a restart and on every replica, and equal bytes are
never sent twice (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-versions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type URL
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

# Make before break: what is referred to goes before what refers to it. Rules go before listeners, so that no connection
# begins on a new filter chain under rules that are no longer in force.
PUSH_ORDER = (CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """One named Envoy message. `body` is its deterministic serialisation, `version` the hash of that."""

    name: str
    version: str
    body: bytes

    @classmethod
    def of(cls, name: str, body: bytes) -> Resource:
        return cls(name, blake2b(body, digest_size=8).hexdigest(), body)


Resources: TypeAlias = Mapping[str, Mapping[str, Resource]]
"""type URL -> resource name -> resource"""
