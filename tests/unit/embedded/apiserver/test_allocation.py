"""Cluster IPs and node ports are given once, and given back."""

from __future__ import annotations

from typing import Any

from mizzen.embedded.apiserver.allocation import Allocations


def service(uid: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": uid, "namespace": "n", "uid": uid}, "spec": {"ports": [{"port": 80}], **spec}}


def allocations() -> Allocations:
    return Allocations(lambda size: 0)


def test_addresses_differ_and_return() -> None:
    pool = allocations()
    first, second = service("a"), service("b")
    assert pool.allocate(first, None) == pool.allocate(second, None) == []
    assert (first["spec"]["clusterIP"], second["spec"]["clusterIP"]) == ("10.96.1.0", "10.96.1.1")
    pool.release("a")
    third = service("c")
    pool.allocate(third, None)
    assert third["spec"]["clusterIPs"] == ["10.96.1.0"]


def test_an_address_cannot_be_taken_twice_nor_reserved_ones_by_strangers() -> None:
    pool = allocations()
    pool.allocate(service("a", clusterIP="10.96.7.7"), None)
    for address, words in (
        ("10.96.7.7", "provided IP is already allocated"),
        ("10.96.0.1", "provided IP is already allocated"),
        ("10.97.0.1", "not in the valid range"),
        ("nonsense", "must be a valid IP address"),
    ):
        causes = pool.allocate(service("b", clusterIP=address), None)
        assert [cause.field.partition("[")[0] for cause in causes] == ["spec.clusterIPs"]
        assert words in causes[0].message


def test_a_service_keeps_its_address_and_ports_over_updates() -> None:
    pool = allocations()
    old = service("a", type="NodePort")
    pool.allocate(old, None)
    new = service("a", type="NodePort")
    assert pool.allocate(new, old) == []
    assert new["spec"] == old["spec"]
    changed = service("a", clusterIP="10.96.9.9")
    assert pool.allocate(changed, old)[0].message.endswith("may not change once set")


def test_node_ports_leave_with_the_type() -> None:
    pool = allocations()
    old = service("a", type="NodePort")
    pool.allocate(old, None)
    assert old["spec"]["ports"][0]["nodePort"] == 30000
    new = service("a", type="ClusterIP", ports=[{"port": 80, "nodePort": 30000}])
    pool.allocate(new, old)
    assert "nodePort" not in new["spec"]["ports"][0]
    assert pool.allocate(service("b", type="NodePort", ports=[{"port": 1, "nodePort": 30000}]), None) == []


def test_ports_out_of_range_or_taken_are_refused() -> None:
    pool = allocations()
    pool.allocate(service("a", type="NodePort"), None)
    for port, words in ((80, "not in the valid range"), (30000, "already allocated")):
        causes = pool.allocate(service("b", type="NodePort", ports=[{"port": 1, "nodePort": port}]), None)
        assert causes[0].field == "spec.ports[0].nodePort"
        assert words in causes[0].message


def test_tcp_and_udp_may_share_a_node_port() -> None:
    pool = allocations()
    ports = [{"port": 53, "nodePort": 30053}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]
    assert pool.allocate(service("a", type="NodePort", ports=ports), None) == []


def test_external_names_have_no_address() -> None:
    pool = allocations()
    external = service("a", type="ExternalName", externalName="x.example.com", clusterIP="")
    assert pool.allocate(external, None) == []
    assert "clusterIP" not in external["spec"]
