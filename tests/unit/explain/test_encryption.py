"""What a proxy's own pages say about how it speaks, and who came without mesh TLS."""

from __future__ import annotations

from typing import Any

from mizzen.explain.encryption import Arrived, Sent, arrived, sent, transports

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
RAW = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
MESH = {
    "typed_config": {"@type": TLS, "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}]}}
}
ORIGINATED = {"typed_config": {"@type": TLS, "common_tls_context": {}}}
BY_ENDPOINT = [
    {"match": {"tlsMode": "istio"}, "transport_socket": MESH},
    {"match": {}, "transport_socket": {"typed_config": {"@type": RAW}}},
]


def clusters(*found: dict[str, Any]) -> dict[str, Any]:
    return {"configs": [{"cluster": one} for one in found]}


def endpoints(cluster: str, **modes: str) -> dict[str, Any]:
    group = [
        {
            "endpoint": {"address": {"socket_address": {"address": address, "port_value": 80}}},
            "metadata": {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": mode}}} if mode else {},
        }
        for address, mode in modes.items()
    ]
    return {"configs": [{"endpoint_config": {"cluster_name": cluster, "endpoints": [{"lb_endpoints": group}]}}]}


def statuses(cluster: str, address: str, **stats: int) -> dict[str, Any]:
    counted = [{"name": name, "value": str(value)} for name, value in stats.items()]
    host = {"address": {"socket_address": {"address": address, "port_value": 80}}, "stats": counted}
    return {"cluster_statuses": [{"name": cluster, "host_statuses": [host]}]}


def test_endpoints_of_one_cluster_are_told_apart() -> None:
    name = "outbound|80||a.b.svc.cluster.local"
    ways = transports(
        clusters({"name": name, "transport_socket_matches": BY_ENDPOINT}), endpoints(name, x="istio", y="")
    )
    assert [*sent(statuses(name, "x", rq_total=3, cx_total=1), ways)] == [Sent(name, "x", 80, "mTLS", 3)]
    assert [*sent(statuses(name, "y", rq_total=2, cx_total=2), ways)] == [Sent(name, "y", 80, "plaintext", 2)]


def test_one_transport_for_all_and_connections_that_stood() -> None:
    ways = transports(
        clusters(
            {"name": "outbound|80||m", "transport_socket": MESH},
            {"name": "outbound|80||t", "transport_socket": ORIGINATED},
            {"name": "outbound|80||p"},
        ),
        {},
    )
    found = [next(sent(statuses(f"outbound|80||{name}", "x", cx_total=5, cx_connect_fail=1), ways)) for name in "mtp"]
    assert [(one.how, one.calls) for one in found] == [("mTLS", 4), ("TLS", 4), ("plaintext", 4)]


def test_nothing_sent_and_the_own_application_are_no_calls() -> None:
    assert [*sent(statuses("outbound|80||a", "x", cx_total=1, cx_connect_fail=1), {})] == []
    assert [*sent(statuses("inbound|80||", "x", rq_total=9), {})] == []


def test_who_came_without_mesh_tls() -> None:
    page = (
        "# TYPE envoy_mizzen_unencrypted counter\n"
        'envoy_mizzen_unencrypted{seen="plaintext",source="10.0.0.9",port="9080"} 2\n'
        'envoy_mizzen_unencrypted{seen="refused",source="10.0.0.9",port="9080"} 0\n'
        "envoy_server_live{} 1\n"
    )
    assert [*arrived(page)] == [Arrived("plaintext", "10.0.0.9", 9080, 2)]
