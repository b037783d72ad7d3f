"""What holds for everything that is written for Envoy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshes
import scopes
from dice import Dice
from mizzen.analysis import dangling_references
from mizzen.api.decode import to_json
from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import (
    Cluster,
    ClusterLoadAssignment,
    Listener,
    LocalityLbEndpoints,
    RouteConfiguration,
    TcpProxy,
    TypedExtensionConfig,
    optional,
    unpack,
)
from mizzen.envoy.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, Resources
from mizzen.explain.envoy_matching import weighted_clusters
from mizzen.scope import model
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds import routes, translate
from mizzen.xds.endpoints import cluster_load_assignment, lb_endpoint
from mizzen.xds.routes import route_configuration, virtual_host
from stories import scopes as stories_scopes
from stories import world

SEEDS = st.integers(0, 10_000)


def worlds(seed: int) -> Iterator[Resources]:
    dice = Dice(seed)
    mesh = scopes.mesh(dice)
    yield translate.gateway(scopes.gateway_scope(dice, mesh, (8080, 8081)))
    calls, serves = (
        translate.outbound(scopes.outbound_scope(dice, mesh)),
        translate.inbound(scopes.inbound_scope(dice, mesh)),
    )
    yield {each: {**calls.get(each, {}), **serves[each]} for each in (CLUSTER, LISTENER, ROUTES, EXTENSION)}


def named_clusters(told: Resources) -> set[str]:
    """Every cluster that a route or a TCP proxy may send something to."""
    tables = [RouteConfiguration.FromString(each.body) for each in told[ROUTES].values()]
    found: set[str] = set()
    for config in network_filters(told):
        if config.DESCRIPTOR.name == "HttpConnectionManager":
            tables.append(config.route_config)
        else:
            found.update(name for name, _ in weighted_clusters(config))
    actions = [each.route for table in tables for host in table.virtual_hosts for each in host.routes]
    found.update(name for action in actions for name, _ in weighted_clusters(action))
    found.update(policy.cluster for action in actions for policy in action.request_mirror_policies)
    return found - {""}


def network_filters(told: Resources) -> Iterator[Any]:
    for resource in told[LISTENER].values():
        listener = Listener.FromString(resource.body)
        for chain in [*listener.filter_chains, listener.default_filter_chain]:
            yield from (unpack(each.typed_config) for each in chain.filters[-1:])


@given(SEEDS)
def test_every_cluster_that_is_named_exists(seed: int) -> None:
    for told in worlds(seed):
        assert named_clusters(told) <= set(told[CLUSTER])


@given(SEEDS)
def test_every_route_table_that_is_named_exists(seed: int) -> None:
    for told in worlds(seed):
        managers = [each for each in network_filters(told) if each.DESCRIPTOR.name == "HttpConnectionManager"]
        assert {each.rds.route_config_name for each in managers if each.HasField("rds")} <= set(told[ROUTES])


@given(SEEDS)
def test_resources_are_named_as_their_messages_say(seed: int) -> None:
    classes = {CLUSTER: Cluster, LISTENER: Listener, ROUTES: RouteConfiguration, EXTENSION: TypedExtensionConfig}
    for told in worlds(seed):
        for url, resources in told.items():
            assert all(classes[url].FromString(each.body).name == name == each.name for name, each in resources.items())


@given(SEEDS)
def test_a_composed_route_table_is_what_protobuf_would_write(seed: int) -> None:
    dice = Dice(seed)
    clusters = [scopes.subset(dice, 0)]
    table = scopes.table(dice, "80", clusters, sidecar=True)
    mesh = MeshConfig()
    found = RouteConfiguration.FromString(route_configuration(table, mesh).body)
    again = RouteConfiguration.FromString(found.SerializeToString())
    assert again == found
    assert list(found.virtual_hosts)[: len(table.hosts)] == [virtual_host(host, 80, mesh) for host in table.hosts]
    assert found.name == "80"
    assert len(found.virtual_hosts) == len(table.hosts) + 1


@given(SEEDS, st.randoms(use_true_random=False))
def test_a_composed_assignment_is_what_protobuf_would_write(seed: int, order: Any) -> None:
    dice = Dice(seed)
    endpoints = list({each.address: each for each in dice.several(lambda: scopes.endpoint(dice), most=12)}.values())
    resource = cluster_load_assignment("a", endpoints)
    assert ClusterLoadAssignment.FromString(resource.body) == plainly_written("a", endpoints)
    order.shuffle(endpoints)
    assert cluster_load_assignment("a", endpoints) == resource


def plainly_written(cluster: str, endpoints: list[model.Endpoint]) -> Any:
    """The same assignment, built as one message."""
    places = sorted({(each.region, each.zone, each.subzone) for each in endpoints})
    return ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[
            LocalityLbEndpoints(
                locality={"region": region, "zone": zone, "sub_zone": subzone},
                lb_endpoints=[lb_endpoint(each) for each in here],
                load_balancing_weight=optional(sum(each.weight for each in here)),
            )
            for region, zone, subzone in places
            for here in [
                sorted(
                    (each for each in endpoints if (each.region, each.zone, each.subzone) == (region, zone, subzone)),
                    key=lambda each: each.address,
                )
            ]
        ],
    )


VERSIONS = """
import scopes
from dice import Dice
from mizzen.xds import translate
for seed in range(6):
    dice = Dice(seed)
    mesh = scopes.mesh(dice)
    told = translate.outbound(scopes.outbound_scope(dice, mesh))
    print([each.version for url in sorted(told) for each in told[url].values()])
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_versions_do_not_depend_on_the_process(seed: str) -> None:
    """Replicas and restarts must agree on versions, or everything would be sent again."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(tests)}
    run = subprocess.run([sys.executable, "-c", VERSIONS], env=environment, capture_output=True, text=True, check=True)
    here: list[str] = []
    for number in range(6):
        dice = Dice(number)
        mesh = scopes.mesh(dice)
        told = translate.outbound(scopes.outbound_scope(dice, mesh))
        here.append(str([each.version for url in sorted(told) for each in told[url].values()]))
    assert run.stdout.splitlines() == here


def test_an_unchanged_leaf_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of one host costs that host."""
    dice = Dice(1)
    rule = model.Rule(destinations=(scopes.destination(dice, [scopes.subset(dice, 0)]),))
    hosts = [model.Host(name=f"h{number}", domains=(f"h{number}",), rules=(rule,)) for number in range(3)]
    mesh, written = MeshConfig(), []
    monkeypatch.setattr(
        routes,
        "virtual_host",
        lambda host, port, mesh: written.append((host.name, port)) or virtual_host(host, port, mesh),
    )
    route_configuration(model.RouteTable(name="80", hosts=tuple(hosts)), mesh)
    changed = model.Host(name="h1", domains=("h1", "h1.default"), rules=(rule,))
    route_configuration(model.RouteTable(name="80", hosts=(hosts[0], changed, hosts[2])), mesh)
    route_configuration(model.RouteTable(name="81", hosts=(hosts[0],)), mesh)
    assert written == [("h0", 80), ("h1", 80), ("h2", 80), ("h1", 80), ("h0", 81)]


def test_a_reset_is_a_cluster_without_endpoints() -> None:
    listener = translate.outbound(
        model.OutboundScope(
            listeners=(model.Outbound(bind="10.0.0.1", port=1, protocol=model.Protocol.TCP, tcp=(model.TcpRule(),)),),
            routes=(),
            subsets=(),
            fallthrough=model.Fallthrough.ALLOW_ANY,
            mesh=MeshConfig(),
        )
    )[LISTENER]["10.0.0.1_1"]
    (chain,) = Listener.FromString(listener.body).filter_chains
    assert TcpProxy.FromString(chain.filters[-1].typed_config.value).cluster == "BlackHoleCluster"


def test_a_cluster_that_is_missing_was_reported() -> None:
    """Dangling references are legal: what a route names and nobody has is at least told to the user."""
    missing = [name for seed in range(14) for name in missing_clusters(seed)]
    assert any(reported for _, reported in missing), "the meshes contain dangling references"
    assert [name for name, reported in missing if not reported] == []


def missing_clusters(seed: int) -> Iterator[tuple[str, bool]]:
    """Each with whether a finding names its host, its subset or its port."""
    objects = meshes.mesh_objects(seed)
    snapshot = Snapshot.of(objects)
    proxy = Proxy(namespace="default", name="a-1", labels={"app": "a"})
    told = world(stories_scopes(snapshot, proxy, gateway=False), snapshot, "default")
    words = " ".join(found.message for each in objects for found in dangling_references(snapshot, to_json(each)))
    for name in sorted(named_clusters(told) - set(told[CLUSTER])):
        _, port, subset, host = name.split("|")
        yield name, host in words or port in words or bool(subset and subset in words)
