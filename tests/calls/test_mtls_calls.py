"""Who gets in under which PeerAuthentication: calls placed on what a workload's proxy is told."""

from __future__ import annotations

import pytest

from mizzen.explain.simulate import INVALID_MTLS, NO_FILTER_CHAIN, PROTOCOL_ERROR, Call, place
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import objects, scopes, services, world

SERVICES = {"foo.default": {8000: "http", 8001: "tcp", 8002: ""}}
OTHER = "InboundPassthroughCluster"


def policy(mode: str, ports: str = "{}") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{selector: {{matchLabels: {{app: foo}}}}, mtls: {{mode: {mode}}}, portLevelMtls: {ports}}}
"""


def landed(given: str, call: Call) -> str:
    """The cluster, or why there is none."""
    snapshot = Snapshot.of([*services(SERVICES), *objects(given)])
    proxy = Proxy(namespace="default", name="foo-1", labels={"app": "foo"})
    landing = place(call, world(scopes(snapshot, proxy, gateway=False), snapshot, "default"))
    return landing.error or landing.cluster


def plain(port: int, protocol: str = "http") -> Call:
    return Call(port, protocol=protocol, inbound=True)  # type: ignore[arg-type]


def mtls(port: int, protocol: str = "http", alpn: str = "") -> Call:
    return Call(port, protocol=protocol, tls="mtls", alpn=alpn, inbound=True)  # type: ignore[arg-type]


def tls(port: int) -> Call:
    return Call(port, protocol="tcp", tls="tls", alpn="h2", inbound=True)


# Of Istio's own cases, with a Service in place of their ServiceEntry.
PARTLY = policy("DISABLE", '{"9000": {mode: PERMISSIVE}}')
EXPECTED = {
    "disabled, plain": (PARTLY, plain(8000), "inbound|8000||"),
    "disabled, mTLS": (PARTLY, mtls(8000, alpn="istio"), PROTOCOL_ERROR),
    "permissive port of no Service, plain": (PARTLY, plain(9000), OTHER),
    "permissive port of no Service, mTLS": (PARTLY, mtls(9000, alpn="istio"), OTHER),
    "strict, plain": (policy("STRICT"), plain(8000), NO_FILTER_CHAIN),
    "strict, plain bytes": (policy("STRICT"), plain(8001, "tcp"), NO_FILTER_CHAIN),
    "strict, plain on an undeclared port": (policy("STRICT"), plain(8002), NO_FILTER_CHAIN),
    "strict, plain on a port of no Service": (policy("STRICT"), plain(9000), NO_FILTER_CHAIN),
    "strict, TLS without certificate": (policy("STRICT"), tls(8001), INVALID_MTLS),
    "strict, mTLS": (policy("STRICT"), mtls(8000), "inbound|8000||"),
    "strict, mTLS without the mesh's words": (policy("STRICT"), mtls(8000, alpn="h2"), "inbound|8000||"),
    "strict but for one port": (policy("STRICT", '{"8001": {mode: DISABLE}}'), plain(8001, "tcp"), "inbound|8001||"),
    "permissive, plain": ("", plain(8000), "inbound|8000||"),
    "permissive, mTLS": ("", mtls(8000), "inbound|8000||"),
    "permissive, mTLS bytes": ("", mtls(8001, "tcp"), "inbound|8001||"),
    "permissive, undeclared, mTLS": ("", mtls(8002), "inbound|8002||"),
    "permissive, undeclared, mTLS bytes": ("", mtls(8002, "tcp"), "inbound|8002||"),
    "permissive, the application's own TLS": ("", tls(8001), "inbound|8001||"),
    "permissive, its own TLS on an HTTP port": ("", tls(8000), NO_FILTER_CHAIN),
}


@pytest.mark.parametrize("given, call, expected", EXPECTED.values(), ids=EXPECTED.keys())
def test_who_gets_in(given: str, call: Call, expected: str) -> None:
    assert landed(given, call) == expected
