"""Cluster IPs and node ports are given once, and given back."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.embedded.apiserver.allocation import Allocations


def service(uid: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": uid, "namespace": "n", "uid": uid}, "spec": {"ports": [{"port": 80}], **spec}}


def allocations(*families: str) -> Allocations:
    return Allocations(lambda size: 0, families or ("IPv4",))


def given(old: dict[str, Any] | None = None, pool: Allocations | None = None, **spec: Any) -> tuple[Any, ...]:
    """Policy, families and addresses of a Service of a cluster with two families; or what is wrong."""
    made = service("a", selector={"app": "a"})
    made["spec"].update(spec)
    causes = (pool or allocations("IPv4", "IPv6")).allocate(made, old)
    if causes:
        return tuple(f"{cause.field}: {cause.message}" for cause in causes)
    return made["spec"]["ipFamilyPolicy"], made["spec"]["ipFamilies"], made["spec"]["clusterIPs"]


V4, V6 = "10.96.1.0", "fd00:10:96::100"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("SingleStack", ["IPv4"], [V4])),
        ({"ipFamilies": ["IPv6"]}, ("SingleStack", ["IPv6"], [V6])),
        ({"ipFamilyPolicy": "PreferDualStack"}, ("PreferDualStack", ["IPv4", "IPv6"], [V4, V6])),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            ("RequireDualStack", ["IPv6", "IPv4"], [V6, V4]),
        ),
        ({"clusterIP": "fd00:10:96::7"}, ("SingleStack", ["IPv6"], ["fd00:10:96::7"])),
        (
            {"clusterIPs": ["fd00:10:96::7", "10.96.7.7"], "ipFamilyPolicy": "PreferDualStack"},
            ("PreferDualStack", ["IPv6", "IPv4"], ["fd00:10:96::7", "10.96.7.7"]),
        ),
        (
            {"clusterIP": "fd00:10:96::7", "ipFamilyPolicy": "RequireDualStack"},
            ("RequireDualStack", ["IPv6", "IPv4"], ["fd00:10:96::7", V4]),
        ),
        (
            {"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack"},
            ("RequireDualStack", ["IPv4", "IPv6"], ["None"]),
        ),
        ({"clusterIP": "None", "selector": None}, ("RequireDualStack", ["IPv4", "IPv6"], ["None"])),
    ],
)
def test_families_and_addresses(spec: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert given(**spec) == expected


_SEVERAL = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ipFamilies": ["IPv4", "IPv6"]}, f'spec.ipFamilyPolicy: Invalid value: "SingleStack": {_SEVERAL}'),
        ({"clusterIPs": ["10.96.7.7", "10.96.7.8"]}, "no more than one IP for each IP family"),
        ({"clusterIPs": ["10.96.7.7", "fd00:10:96::7", "x"]}, "may only hold up to 2 values"),
        ({"clusterIPs": ["None", "fd00:10:96::7"]}, "must be empty when the first value is 'None'"),
        ({"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.8"]}, "first value must match `clusterIP`"),
        ({"clusterIP": "10.96.7.7", "ipFamilies": ["IPv6"]}, "expected an IPv6 value as indicated by `ipFamilies[0]`"),
        ({"clusterIP": "fd00:10:97::7"}, "not in the valid range fd00:10:96::/112"),
        ({"type": "ExternalName", "ipFamilies": ["IPv4"]}, "spec.ipFamilies: Forbidden"),
    ],
)
def test_what_contradicts_itself_is_refused(spec: dict[str, Any], words: str) -> None:
    assert words in given(**spec)[0]


def test_a_cluster_of_one_family_refuses_the_other() -> None:
    def refused(**spec: Any) -> str:
        return str(given(None, allocations(), **spec)[0])

    assert refused(ipFamilies=["IPv6"]) == 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'
    assert refused(ipFamilyPolicy="RequireDualStack").endswith("not configured for dual-stack services")
    assert refused(clusterIP="fd00:10:96::7").endswith("IPv6 is not configured on this cluster")
    assert given(None, allocations(), ipFamilyPolicy="PreferDualStack") == ("PreferDualStack", ["IPv4"], [V4])


def test_services_change_between_one_family_and_two() -> None:
    pool = allocations("IPv4", "IPv6")
    single = service("a", selector={"app": "a"})
    assert pool.allocate(single, None) == []
    assert given(single, pool) == ("SingleStack", ["IPv4"], [V4])
    upgraded = {**single, "spec": {**single["spec"], "ipFamilyPolicy": "RequireDualStack"}}
    assert pool.allocate(upgraded, single) == []
    assert upgraded["spec"]["clusterIPs"] == [V4, V6]
    assert given(upgraded, pool) == ("RequireDualStack", ["IPv4", "IPv6"], [V4, V6])
    both = {name: upgraded["spec"][name] for name in ("clusterIP", "clusterIPs", "ipFamilies")}
    assert given(upgraded, pool, **both, ipFamilyPolicy="SingleStack") == ("SingleStack", ["IPv4"], [V4])
    assert "to release the secondary IP family" in given(upgraded, pool, ipFamilies=["IPv4"])[0]
    assert "as indicated by `ipFamilies[0]`" in given(upgraded, pool, ipFamilies=["IPv6", "IPv4"])[0]
    moved = given(upgraded, pool, clusterIP=V4, clusterIPs=[V4, "fd00:10:96::9"])
    assert moved[0].endswith("may not change once set")
    pool.restore("a", upgraded)
    assert pool.allocate(service("b", clusterIP=V6), None)[0].message.endswith("provided IP is already allocated")


def test_a_service_that_prefers_two_families_waits_to_be_told_so() -> None:
    old = service("a", selector={"app": "a"}, ipFamilyPolicy="PreferDualStack")
    assert allocations().allocate(old, None) == []
    changed = {**old, "spec": {**old["spec"], "ports": [{"port": 81}]}}
    assert allocations("IPv4", "IPv6").allocate(changed, old) == []
    assert changed["spec"]["clusterIPs"] == [V4]


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
