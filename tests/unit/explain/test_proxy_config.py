from __future__ import annotations

import pytest

from mizzen.explain.proxy_config import ClusterRow, EndpointRow, clusters, endpoints, listeners, routes

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def dump(kind: str, **sections: object) -> dict:
    return {"configs": [{"@type": f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump", **sections}]}


def chain(match: dict, config: dict) -> dict:
    return {"filter_chain_match": match, "filters": [{"typed_config": config}]}


def test_clusters_of_services_and_others() -> None:
    config = "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"
    service = {
        "name": "outbound|9080|v1|reviews.default.svc.cluster.local",
        "type": "EDS",
        "metadata": {"filter_metadata": {"istio": {"config": config}}},
    }
    entries = [{"cluster": service}, {"cluster": {"name": "PassthroughCluster", "type": "ORIGINAL_DST"}}]
    assert clusters(dump("Clusters", dynamic_active_clusters=entries)) == [
        ClusterRow(fqdn="PassthroughCluster", type="ORIGINAL_DST"),
        ClusterRow(
            fqdn="reviews.default.svc.cluster.local",
            port=9080,
            subset="v1",
            direction="outbound",
            type="EDS",
            destination_rule="reviews.default",
        ),
    ]


@pytest.mark.parametrize(
    ("match", "config", "expected"),
    [
        ({}, {"@type": HCM, "rds": {"route_config_name": "9080"}}, ("ALL", "Route: 9080")),
        (
            {"server_names": ["a", "b"], "transport_protocol": "tls"},
            {"@type": TCP, "cluster": "outbound|443||x"},
            ("SNI: a,b; Trans: tls", "Cluster: outbound|443||x"),
        ),
        (
            {"application_protocols": ["http/1.1", "h2c"], "destination_port": 9080},
            {"@type": HCM, "route_config": {"virtual_hosts": [{"routes": [{"match": {"prefix": "/"}}]}]}},
            ("App: HTTP; Addr: *:9080", "Inline Route: /*"),
        ),
        (
            {"prefix_ranges": [{"address_prefix": "10.0.0.1", "prefix_len": 32}]},
            {"@type": TCP, "cluster": "PassthroughCluster"},
            ("Addr: 10.0.0.1/32", "PassthroughCluster"),
        ),
        ({}, {"@type": "other"}, ("ALL", "Non-HTTP/Non-TCP")),
    ],
)
def test_matches_and_destinations_of_listeners(match: dict, config: dict, expected: tuple[str, str]) -> None:
    listener = {
        "name": "x",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
        "filter_chains": [chain(match, config)],
    }
    [row] = listeners(dump("Listeners", dynamic_listeners=[{"active_state": {"listener": listener}}]))
    assert (row.match, row.destination) == expected
    assert (row.addresses, row.port) == ("0.0.0.0", 15006)


def test_routes_with_domains_matches_and_whose_they_are() -> None:
    config = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews"
    first = {
        "match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]},
        "metadata": {"filter_metadata": {"istio": {"config": config}}},
    }
    second = {"match": {"safe_regex": {"regex": "/x.*"}}}
    host = {"name": "reviews:9080", "domains": ["reviews", "reviews:9080", "b", "c"], "routes": [first, second]}
    entries = [{"route_config": {"name": name, "virtual_hosts": [host]}} for name in ("9080", "80")]
    rows = routes(dump("Routes", dynamic_route_configs=entries))
    assert [row.name for row in rows] == ["80", "80", "9080", "9080"]
    assert (rows[0].domains, rows[0].match) == ("reviews, b + 1 more...", "/* end-user=jason")
    assert rows[0].virtual_service == "reviews.default"
    assert rows[1].match == "regex /x.*"


def test_endpoints_with_their_health() -> None:
    socket = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    hosts = [
        {"address": socket, "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True}},
        {"address": {"pipe": {"path": "./socket"}}, "health_status": {}},
    ]
    rows = endpoints({"cluster_statuses": [{"name": "x", "host_statuses": hosts}]})
    assert rows == [
        EndpointRow(endpoint="10.0.0.1:80", status="HEALTHY", outlier_check="FAILED", cluster="x"),
        EndpointRow(endpoint="unix://./socket", status="HEALTHY", outlier_check="OK", cluster="x"),
    ]
