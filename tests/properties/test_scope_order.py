"""What holds for every mesh: input order means nothing, memory never shows, and names that must be unique are."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mizzen.api.base import Resource
from mizzen.scope.model import OutboundScope
from mizzen.scope.references import findings
from mizzen.scope.resolve import gateway, outbound
from mizzen.scope.snapshot import Snapshot, absent, present
from mizzen.scope.view import GatewayView, OutboundView
from worlds import objects

NAMESPACES = ("a", "b")
NAMES = ("p", "q", "r")
GATEWAY = GatewayView(namespace="a", labels=(("app", "gw"),))


def _service(dice: Random, name: str, namespace: str) -> str:
    kind = dice.choice(["clusterIP: None", f"clusterIP: 10.0.{ord(name)}.{ord(namespace)}"])
    ports = dice.choice(
        ["[{port: 80, name: http}]", "[{port: 80}, {port: 90, name: tcp}]", "[{port: 443, name: https}]"]
    )
    exported = dice.choice(["'*'", "'.'", "b"])
    meta = f"{{name: {name}, namespace: {namespace}, annotations: {{networking.istio.io/exportTo: {exported}}}}}"
    return f"kind: Service\nmetadata: {meta}\nspec: {{{kind}, selector: {{app: gw}}, ports: {ports}}}"


def _virtual_service(dice: Random, name: str, namespace: str) -> str:
    host = dice.choice(["p", "q", "'*.svc.cluster.local'", "www.example.com", "p.a"])
    match = dice.choice(["", "match: [{sourceLabels: {app: gw}}], ", "match: [{port: 80, sourceNamespace: a}], "])
    target = f"{{destination: {{host: {dice.choice(NAMES)}, subset: {dice.choice(['v1', 'v2'])}}}}}"
    exported = dice.choice(["'*'", "'.'", "b"])
    rule = f"{{{match}route: [{target}]}}"
    spec = f"{{hosts: [{host}], gateways: [mesh, a/gw], exportTo: [{exported}], http: [{rule}]}}"
    created = dice.choice(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
    meta = f"{{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}"
    return f"kind: VirtualService\nmetadata: {meta}\nspec: {spec}"


def _rule(dice: Random, name: str, namespace: str) -> str:
    policy = dice.choice(
        ["", "trafficPolicy: {loadBalancer: {simple: RANDOM}}, ", "workloadSelector: {matchLabels: {app: gw}}, "]
    )
    spec = f"{{host: {dice.choice(NAMES)}, {policy}subsets: [{{name: {dice.choice(['v1', 'v2'])}}}]}}"
    return f"kind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}"


GATEWAYS = """
kind: Gateway
metadata: {name: gw, namespace: a}
spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
"""


def mesh(seed: int) -> list[Resource]:
    dice = Random(seed)
    makers = (_service, _virtual_service, _rule)
    drawn = [
        make(dice, name, namespace)
        for make in makers
        for name in NAMES
        for namespace in NAMESPACES
        if dice.random() < 0.7
    ]
    return objects("\n---\n".join([GATEWAYS, *drawn]))


def told(snapshot: Snapshot) -> object:
    views = [OutboundView(namespace=namespace, labels=(("app", "gw"),)) for namespace in (*NAMESPACES, "c")]
    return [outbound(snapshot, view) for view in views], gateway(snapshot, GATEWAY), findings(snapshot)


@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
def test_input_order_means_nothing(seed: int, order: Random) -> None:
    found = mesh(seed)
    shuffled = list(found)
    order.shuffle(shuffled)
    assert told(Snapshot.of(found)) == told(Snapshot.of(shuffled))


@given(seed=st.integers(0, 10_000), other=st.integers(0, 10_000))
def test_a_snapshot_that_was_changed_step_by_step_answers_as_a_fresh_one(seed: int, other: int) -> None:
    """The memo must never show."""
    before, after = mesh(seed), mesh(other)
    snapshot = Snapshot.of(before)
    told(snapshot)
    for obj in before:
        snapshot = snapshot.apply(absent(obj))
        told(snapshot)
    for obj in after:
        snapshot = snapshot.apply(present(obj))
        told(snapshot)
    assert told(snapshot) == told(Snapshot.of(after))


def _domains_are_unique(scope: OutboundScope) -> bool:
    tables = [[domain for host in table.hosts for domain in host.domains] for table in scope.routes]
    return all(len(domains) == len(set(domains)) for domains in tables)


@given(seed=st.integers(0, 10_000))
def test_what_envoy_wants_once_stands_once(seed: int) -> None:
    snapshot = Snapshot.of(mesh(seed))
    for namespace in NAMESPACES:
        scope = outbound(snapshot, OutboundView(namespace=namespace, labels=(("app", "gw"),)))
        assert _domains_are_unique(scope)
        binds = [(one.bind, one.port) for one in scope.listeners]
        names = [one.cluster for one in scope.subsets]
        assert len(binds) == len(set(binds)) and len(names) == len(set(names))
        assert len({table.name for table in scope.routes}) == len(scope.routes)
        assert {one.route for one in scope.listeners if one.route} == {table.name for table in scope.routes}
