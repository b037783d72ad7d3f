"""Which mode holds: mesh, namespace, workload, port; and what callers expect behind a service."""

from __future__ import annotations

import pytest

from mizzen.scope.endpoints import endpoints
from mizzen.scope.model import Resolution, TlsMode
from mizzen.scope.mtls import peer_policies, workload_modes
from mizzen.scope.references import findings
from mizzen.scope.resolve import outbound
from mizzen.scope.view import Proxy, outbound_view
from worlds import world

DISABLE, PERMISSIVE, STRICT = TlsMode.DISABLE, TlsMode.PERMISSIVE, TlsMode.STRICT


def policy(namespace: str, spec: str, name: str = "default", created: str = "2024-01-01T00:00:00Z") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec: {spec}
"""


MESH_STRICT = policy("istio-system", "{mtls: {mode: STRICT}}")
APP = "selector: {matchLabels: {app: web}}"
LATER = "2025-01-01T00:00:00Z"

CASES = {
    "nothing said": ("", PERMISSIVE),
    "mesh": (MESH_STRICT, STRICT),
    "namespace over mesh": (MESH_STRICT + policy("default", "{mtls: {mode: DISABLE}}"), DISABLE),
    "another namespace": (policy("other", "{mtls: {mode: DISABLE}}"), PERMISSIVE),
    "unset inherits": (MESH_STRICT + policy("default", "{mtls: {mode: UNSET}}"), STRICT),
    "no spec inherits": (MESH_STRICT + policy("default", "{}"), STRICT),
    "workload over namespace": (MESH_STRICT + policy("default", f"{{{APP}, mtls: {{mode: PERMISSIVE}}}}"), PERMISSIVE),
    "another workload": (policy("default", "{selector: {matchLabels: {app: x}}, mtls: {mode: STRICT}}"), PERMISSIVE),
    "a selector in the root namespace": (policy("istio-system", f"{{{APP}, mtls: {{mode: STRICT}}}}"), PERMISSIVE),
    "an empty selector is none": (policy("default", "{selector: {}, mtls: {mode: STRICT}}"), STRICT),
    "the oldest of two": (
        policy("default", "{mtls: {mode: STRICT}}", "b")
        + policy("default", "{mtls: {mode: DISABLE}}", "a", created=LATER),
        STRICT,
    ),
}


@pytest.mark.parametrize("given, mode", CASES.values(), ids=CASES.keys())
def test_precedence(given: str, mode: TlsMode) -> None:
    modes = peer_policies(world(given)).workload("default", {"app": "web", "version": "v1"})
    assert (modes.mode, modes.at(8080)) == (mode, mode)


def test_a_port_may_differ_and_an_unset_one_inherits() -> None:
    ports = 'portLevelMtls: {"8080": {mode: DISABLE}, "8081": {mode: UNSET}, "8082": {}}'
    modes = peer_policies(world(MESH_STRICT + policy("default", f"{{{APP}, {ports}}}"))).workload(
        "default", {"app": "web"}
    )
    assert [modes.at(port) for port in (8080, 8081, 8082, 9)] == [DISABLE, STRICT, STRICT, STRICT]


def test_equal_answers_are_one_object_across_edits() -> None:
    before = world(MESH_STRICT)
    after = before.apply(*[])
    labels = frozenset({("app", "web")})
    assert workload_modes(before, "default", labels) is workload_modes(after, "other", frozenset())


def test_policies_that_are_not_in_force_are_told() -> None:
    given = (
        policy("default", "{mtls: {mode: STRICT}}", "b")
        + policy("default", "{mtls: {mode: DISABLE}}", "a", created=LATER)
        + policy("istio-system", f"{{{APP}, mtls: {{mode: STRICT}}}}")
    )
    found = {(one.code, one.namespace, one.name) for one in findings(world(given))}
    assert found == {("MZ0004", "default", "a"), ("MZ0005", "istio-system", "default")}


def behind(headless: bool, *pods: tuple[str, str]) -> str:
    """A Service `web` with Pods of these tlsModes and service accounts."""
    objects = "".join(
        f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: web-{index}, labels: {{app: web, security.istio.io/tlsMode: "{mode}"}}}}
spec: {{serviceAccountName: {account}}}
"""
        for index, (mode, account) in enumerate(pods)
    )
    entries = "".join(
        f"\n- {{addresses: [10.0.0.{index + 1}], targetRef: {{kind: Pod, name: web-{index}}}}}"
        for index in range(len(pods))
    )
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: {"None" if headless else "10.96.0.1"}, selector: {{app: web}},
  ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-x, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: {entries or "[]"}
{objects}"""


def test_an_endpoint_takes_mesh_tls_unless_its_own_port_forbids_it() -> None:
    given = behind(False, ("istio", "a"), ("disabled", "b"))
    modes = [one.tls_mode for one in endpoints(world(given), "web.default.svc.cluster.local", 80)]
    assert modes == ["istio", ""]
    forbidden = policy("default", f'{{{APP}, portLevelMtls: {{"8080": {{mode: DISABLE}}}}}}')
    modes = [one.tls_mode for one in endpoints(world(given + forbidden), "web.default.svc.cluster.local", 80)]
    assert modes == ["", ""]


AUTO_OFF = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "enableAutoMtls: false"}
"""

CALLERS = {
    "one by one": (behind(False, ("istio", "b"), ("disabled", "a")), True, ("a", "b")),
    "nobody there": (behind(False), True, ()),
    "headless, all of the mesh": (behind(True, ("istio", "a"), ("istio", "a")), True, ("a",)),
    "headless, one without a sidecar": (behind(True, ("istio", "a"), ("disabled", "a")), False, ("a",)),
    "headless, forbidden": (
        behind(True, ("istio", "a")) + policy("default", "{mtls: {mode: DISABLE}}"),
        False,
        ("a",),
    ),
    "off in the mesh": (behind(False, ("istio", "a")) + AUTO_OFF, False, ("a",)),
}


@pytest.mark.parametrize("given, mtls, accounts", CALLERS.values(), ids=CALLERS.keys())
def test_what_callers_do(given: str, mtls: bool, accounts: tuple[str, ...]) -> None:
    snapshot = world(given)
    (cluster,) = outbound(snapshot, outbound_view(snapshot, Proxy(namespace="default"))).subsets
    assert (cluster.mtls, cluster.accounts) == (mtls, accounts)
    assert cluster.resolution in (Resolution.EDS, Resolution.ORIGINAL_DST)
