"""Names that Istio gives to what every proxy has; tools look for them."""

from __future__ import annotations

from mizzen.scope.model import Fallthrough, Source

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"

VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"

ALLOW_ANY = "allow_any"
BLOCK_ALL = "block_all"

JWT_METADATA = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
"""Where Envoy leaves what a valid token says: the metadata of a filter, and a name in it that we choose."""

INBOUND_SOURCE, INBOUND_SOURCE_IPV6 = "127.0.0.6", "::6"
"""Where a sidecar's connections to its own application come from; capture rules let it through."""

_KEBAB = {"VirtualService": "virtual-service", "DestinationRule": "destination-rule", "HTTPRoute": "http-route"}


def config_path(source: Source) -> str:
    """The value of `filter_metadata.istio.config`: which resource decided this."""
    kind = _KEBAB.get(source.kind, source.kind.lower())
    return f"/apis/networking.istio.io/v1/namespaces/{source.namespace}/{kind}/{source.name}"


def fallthrough_cluster(fallthrough: Fallthrough) -> str:
    """Where a sidecar sends what it does not know."""
    return PASSTHROUGH if fallthrough is Fallthrough.ALLOW_ANY else BLACK_HOLE


def port_of(table: str) -> int:
    """The port in a RouteConfiguration's name: `9080`, `FQDN:PORT`, `http.8080`, `https.443.PORTNAME.GATEWAY.NS`."""
    if table.startswith("https."):
        return int(table.split(".")[1])
    return int(table.rpartition(":")[2].rpartition(".")[2])
