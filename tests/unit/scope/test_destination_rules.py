from __future__ import annotations

from mizzen.api.networking import DestinationRule
from mizzen.scope.destination_rules import beside_others
from mizzen.scope.model import Resolution, Subset
from mizzen.scope.references import findings
from mizzen.scope.resolve import outbound
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import OutboundView, Proxy, outbound_view
from worlds import clusters, host, world

REVIEWS = """
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.1.2, ports: [{port: 9080, name: http}, {port: 9090, name: http-b}]}
"""


def rule(name: str, spec: str, namespace: str = "default", created: str = "2026-01-01T00:00:00Z") -> str:
    meta = f"{{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}"
    return f"\n---\nkind: DestinationRule\nmetadata: {meta}\nspec: {{host: reviews.default.svc.cluster.local, {spec}}}"


def limits(number: int) -> str:
    return f"trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {number}}}}}}}"


def subset(snapshot: Snapshot, port: int = 9080, name: str = "", namespace: str = "default", **labels: str) -> Subset:
    view = outbound_view(snapshot, Proxy(namespace=namespace, labels=labels))
    cluster = f"outbound|{port}|{name}|reviews.default.svc.cluster.local"
    return next(one for one in outbound(snapshot, view).subsets if one.cluster == cluster)


def connections(found: Subset) -> int:
    pool = found.policy.connection_pool if found.policy else None
    return pool.tcp.max_connections if pool and pool.tcp else 0


def test_the_clients_namespace_comes_before_the_services_before_the_root() -> None:
    everywhere = REVIEWS + rule("c", limits(3), "istio-system")
    assert connections(subset(world(everywhere), namespace="client")) == 3
    in_service = everywhere + rule("b", limits(2))
    assert connections(subset(world(in_service), namespace="client")) == 2
    in_client = in_service + rule("a", limits(1), "client")
    assert connections(subset(world(in_client), namespace="client")) == 1
    assert connections(subset(world(in_client), namespace="third")) == 2
    assert connections(subset(world(in_client), namespace="istio-system")) == 2


def test_first_hit_wins_whole() -> None:
    snapshot = world(REVIEWS + rule("own", "subsets: [{name: v1}]", "client") + rule("theirs", limits(2)))
    assert connections(subset(snapshot, namespace="client")) == 0


def test_a_rule_that_is_not_exported_holds_in_its_namespace_alone() -> None:
    snapshot = world(REVIEWS + rule("own", f"exportTo: ['.'], {limits(2)}"))
    assert (connections(subset(snapshot)), connections(subset(snapshot, namespace="client"))) == (2, 0)


def test_two_rules_merge_and_the_user_is_told_whose_policy_is_dropped() -> None:
    first = rule("my-dr", f"{limits(1)}, subsets: [{{name: v1, labels: {{version: v1}}}}]")
    second = rule(
        "circuit-breaker", f"{limits(9)}, subsets: [{{name: v2}}, {{name: v1}}]", created="2026-01-02T00:00:00Z"
    )
    snapshot = world(REVIEWS + second + first)
    assert connections(subset(snapshot)) == 1
    assert subset(snapshot, name="v1").labels == (("version", "v1"),)
    assert str(subset(snapshot, name="v2").source) == "DestinationRule/default/circuit-breaker"
    told = {problem.code: problem for problem in findings(snapshot)}
    assert (told["MZ0001"].name, told["MZ0001"].path) == ("circuit-breaker", "spec.trafficPolicy")
    assert "default/my-dr" in told["MZ0001"].message
    assert told["MZ0002"].path == "spec.subsets[1]"


def test_a_rule_is_told_before_it_is_stored_whose_policy_stays() -> None:
    first, second = world(rule("my-dr", limits(1))), world(rule("circuit-breaker", limits(9)))
    (newcomer,) = second.table(DestinationRule)
    (told,) = beside_others(first, newcomer)
    assert told.code == "MZ0001"
    assert "default/circuit-breaker is not in force: DestinationRule default/my-dr is older" in told.message
    (known,) = first.table(DestinationRule)
    assert beside_others(first, known) == beside_others(world(""), newcomer) == ()


def test_a_selecting_rule_comes_first_for_the_pods_it_selects() -> None:
    selecting = rule("picky", f"workloadSelector: {{matchLabels: {{app: a}}}}, {limits(5)}")
    snapshot = world(REVIEWS + rule("all", limits(1), created="2025-01-01T00:00:00Z") + selecting)
    assert connections(subset(snapshot, app="a")) == 5
    assert connections(subset(snapshot, app="b")) == 1


def test_a_subset_overrides_block_by_block() -> None:
    policy = "trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}}}"
    snapshot = world(REVIEWS + rule("r", f"{policy}, subsets: [{{name: v1, {limits(2)}}}]"))
    found = subset(snapshot, name="v1").policy
    assert found is not None and found.load_balancer is not None and found.load_balancer.simple == "RANDOM"
    assert connections(subset(snapshot, name="v1")) == 2


def test_a_port_entry_stands_in_for_all_blocks_of_its_level() -> None:
    entry = "portLevelSettings: [{port: {number: 9090}, loadBalancer: {simple: ROUND_ROBIN}}]"
    top = f"trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}, {entry}}}"
    snapshot = world(REVIEWS + rule("r", f"{top}, subsets: [{{name: v1, trafficPolicy: {{{entry}}}}}]"))
    assert (connections(subset(snapshot, 9080)), connections(subset(snapshot, 9090))) == (1, 0)
    assert (connections(subset(snapshot, 9080, "v1")), connections(subset(snapshot, 9090, "v1"))) == (1, 0)


def test_passthrough_means_the_original_address() -> None:
    snapshot = world(REVIEWS + rule("r", "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}"))
    assert subset(snapshot).resolution is Resolution.ORIGINAL_DST


def test_hash_policies_reach_the_route_that_leads_to_the_cluster() -> None:
    hashing = "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"
    routed = """
---
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{match: [{port: 9090}], route: [{destination: {host: reviews, subset: v1}}]}]}"""
    snapshot = world(REVIEWS + rule("r", f"{hashing}, subsets: [{{name: v1}}]") + routed)
    scope = outbound(snapshot, OutboundView(namespace="default"))
    for port in ("9080", "9090"):
        (found,) = host(scope, port, "reviews").rules
        assert [one.http_header_name for one in found.consistent_hash] == ["x-user"], clusters((found,))
