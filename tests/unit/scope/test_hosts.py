from __future__ import annotations

from typing import Any

import pytest

from mizzen.scope import hosts
from worlds import table


@pytest.mark.parametrize("row", table("TestNameMatches"))
def test_names_overlap_as_in_istio(row: dict[str, Any]) -> None:
    assert hosts.matches(row["a"], row["b"]) is row["out"]


@pytest.mark.parametrize("row", table("TestMoreSpecific"))
def test_specificity_orders_as_in_istio(row: dict[str, Any]) -> None:
    first = hosts.specificity(row["host1"]) <= hosts.specificity(row["host2"])
    assert first is row["expected"]


@pytest.mark.parametrize("row", table("TestNamesForNamespace"))
def test_namespace_prefixes_restrict(row: dict[str, Any]) -> None:
    assert hosts.for_namespace(row["hosts"], row["namespace"]) == row["want"]


@pytest.mark.parametrize("row", table("TestResolveShortnameToFQDN"))
def test_short_names_belong_to_the_rules_namespace(row: dict[str, Any]) -> None:
    meta = row["meta"]
    assert hosts.full_name(row["name"], meta.get("namespace", ""), meta.get("domain", "")) == row["out"]


@pytest.mark.parametrize("row", table("TestMostSpecificHostMatch"))
def test_the_most_specific_name_wins(row: dict[str, Any]) -> None:
    assert (hosts.most_specific(row["needle"], row["in"]) or "") == row["want"]


@pytest.mark.parametrize("row", table("TestGenerateVirtualHostDomains"))
def test_domains_that_lead_to_a_service(row: dict[str, Any]) -> None:
    service = row["service"]
    addresses = service.get("clusterVIPs", {}).get("Addresses", {}).get("cluster-1", [])
    family = [address for address in addresses if address in row["want"] or f"[{address}]" in row["want"]]
    names = [service["hostname"], *(one["Hostname"] for one in service.get("Attributes", {}).get("Aliases", []))]
    made = hosts.service_domains(names, family, row["node"]["DNSDomain"])
    assert sorted(made) == sorted(row["want"])


def test_headless_services_answer_for_their_pods() -> None:
    made = hosts.service_domains(["db.default.svc.cluster.local"], [], "default.svc.cluster.local", headless=True)
    assert "*.db.default.svc.cluster.local" in made and "*.db" in made


def test_intersection_keeps_the_narrower_name_once() -> None:
    assert hosts.intersection(["foo.com", "*.net"], ["*.com", "bar.net", "*.foo.net"]) == [
        "foo.com",
        "bar.net",
        "*.foo.net",
    ]


def test_an_index_prefers_exact_then_long_wildcards() -> None:
    index = hosts.HostIndex({"*": "any", "*.com": "com", "*.foo.com": "foo", "a.foo.com": "a"})
    wanted = {"a.foo.com": "a", "b.foo.com": "foo", "bar.com": "com", "x.org": "any"}
    assert {name: index.get(name) for name in wanted} == wanted
