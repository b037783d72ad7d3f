"""Pairs, what policies say about them, and what another mode would break."""

from __future__ import annotations

from mizzen.api.core import Pod
from mizzen.explain.encryption import MTLS, PLAINTEXT, Arrived, Reading, Sent
from mizzen.explain.tls_check import TlsRow, breaking, missing_sidecars, proxied, tls_check
from mizzen.scope.snapshot import Snapshot
from stories import objects

HOST = "pay.shop.svc.cluster.local"
CLUSTER = f"outbound|80||{HOST}"


def pod(name: str, namespace: str, address: str, *, meshed: bool = True) -> str:
    proxy = ", {name: istio-proxy}" if meshed else ""
    mode = ", security.istio.io/tlsMode: istio" if meshed else ""
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}{mode}}}}}
spec: {{containers: [{{name: app}}{proxy}]}}
status: {{phase: Running, podIP: {address}}}
"""


WORLD = f"""
apiVersion: v1
kind: Service
metadata: {{name: pay, namespace: shop}}
spec: {{clusterIP: 10.96.0.1, selector: {{app: pay}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: pay-1, namespace: shop, labels: {{kubernetes.io/service-name: pay}}}}
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.0.0.1], targetRef: {{kind: Pod, name: pay, namespace: shop}}}}]
{pod("pay", "shop", "10.0.0.1")}
{pod("web", "shop", "10.0.0.2")}
{pod("cron", "old", "10.0.0.3", meshed=False)}
"""
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
DISABLED = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: DISABLE}}
"""


def rule(mode: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: pay, namespace: shop}}
spec: {{host: pay, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""


def readings(snapshot: Snapshot, *, sent: tuple[Sent, ...] = (), came: tuple[Arrived, ...] = ()) -> list[Reading]:
    found = {one.name: one for one in snapshot.table(Pod)}
    return [Reading(pod=found["web"], sent=sent), Reading(pod=found["pay"], arrived=came)]


def by_client(rows: list[TlsRow]) -> dict[str, tuple[str, ...]]:
    return {row.client: (row.server, row.observed.text, row.speaks, row.takes, row.verdict, row.reason) for row in rows}


def mesh(*more: str) -> Snapshot:
    return Snapshot.of(objects("".join((WORLD, *more))))


def test_a_mesh_caller_and_a_plain_one() -> None:
    snapshot = mesh()
    seen = readings(
        snapshot, sent=(Sent(CLUSTER, "10.0.0.1", 8080, MTLS, 5),), came=(Arrived("plaintext", "10.0.0.3", 8080, 2),)
    )
    assert by_client(tls_check(snapshot, seen)) == {
        "web.shop": ("pay.shop:80", "5 mTLS", "mTLS", "PERMISSIVE", "mTLS", ""),
        "cron.old": (
            "pay.shop:80", "2 plaintext", "plaintext", "PERMISSIVE", "plaintext", "the caller has no sidecar",
        ),
    }  # fmt: skip
    strict = tls_check(snapshot, seen, what_if="STRICT")
    assert [(row.client, row.verdict) for row in strict] == [("cron.old", "would break"), ("web.shop", "mTLS")]
    assert [row.client for row in breaking(strict)] == ["cron.old"]
    assert breaking(tls_check(snapshot, seen, what_if="DISABLE")) == []
    assert breaking(tls_check(snapshot, seen, what_if="PERMISSIVE")) == []


def test_what_a_strict_server_refuses_is_told() -> None:
    snapshot = mesh(STRICT)
    seen = readings(snapshot, came=(Arrived("refused", "10.0.0.3", 8080, 4),))
    assert by_client(tls_check(snapshot, seen))["cron.old"][1:5] == ("4 refused", "plaintext", "STRICT", "refused")


def test_a_rule_that_switches_tls_off_breaks_under_strict_and_one_that_forces_it_under_disable() -> None:
    off = mesh(rule("DISABLE"))
    plain = readings(
        off, sent=(Sent(CLUSTER, "10.0.0.1", 8080, PLAINTEXT, 3),), came=(Arrived("plaintext", "10.0.0.2", 8080, 3),)
    )
    (row,) = tls_check(off, plain, what_if="STRICT")
    assert (row.observed.text, row.verdict, row.reason) == (
        "3 plaintext", "would break", "DestinationRule pay.shop says DISABLE",
    )  # fmt: skip
    forced = mesh(rule("ISTIO_MUTUAL"))
    encrypted = readings(forced, sent=(Sent(CLUSTER, "10.0.0.1", 8080, MTLS, 3),))
    assert [row.verdict for row in tls_check(forced, encrypted, what_if="DISABLE")] == ["would break"]


def test_plain_calls_that_end_by_themselves_when_the_server_takes_mtls_do_not_break() -> None:
    snapshot = mesh(DISABLED)
    seen = readings(snapshot, sent=(Sent(CLUSTER, "10.0.0.1", 8080, PLAINTEXT, 3),))
    assert [row.verdict for row in tls_check(snapshot, seen)] == ["plaintext"]
    assert [row.verdict for row in tls_check(snapshot, seen, what_if="STRICT")] == ["mTLS"]


def test_a_caller_that_goes_past_its_sidecar_breaks_under_strict() -> None:
    snapshot = mesh()
    seen = readings(snapshot, came=(Arrived("plaintext", "10.0.0.2", 8080, 1),))
    (row,) = tls_check(snapshot, seen, what_if="STRICT")
    assert (row.client, row.verdict) == ("web.shop", "would break")
    assert "past its sidecar" in row.reason


def test_addresses_of_nobody_and_ports_of_no_service() -> None:
    snapshot = mesh()
    seen = readings(snapshot, came=(Arrived("own TLS", "192.0.2.7", 9999, 1),))
    (row,) = tls_check(snapshot, seen, what_if="STRICT")
    assert (row.client, row.server, row.observed.text, row.verdict) == (
        "192.0.2.7", "pay.shop:9999", "1 TLS", "would break",
    )  # fmt: skip


def test_only_what_came_since_an_earlier_reading() -> None:
    snapshot = mesh()
    before = readings(snapshot, sent=(Sent(CLUSTER, "10.0.0.1", 8080, MTLS, 5),))
    assert tls_check(snapshot, before, before) == []
    now = readings(snapshot, sent=(Sent(CLUSTER, "10.0.0.1", 8080, MTLS, 7),))
    assert [row.observed.mtls for row in tls_check(snapshot, now, before)] == [2]


def test_who_has_a_proxy() -> None:
    snapshot = mesh()
    assert [one.name for one in proxied(snapshot)] == ["pay", "web"]
    assert [*missing_sidecars(snapshot)] == ["cron.old"]
