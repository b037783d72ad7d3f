from __future__ import annotations

from msgspec.structs import replace

from mizzen.api.core import ConfigMap, Service
from mizzen.api.discovery import EndpointSlice
from mizzen.scope.endpoints import slice_owner
from mizzen.scope.memo import Memo
from mizzen.scope.resolve import inbound, outbound
from mizzen.scope.snapshot import Snapshot, absent, present
from mizzen.scope.view import InboundView, OutboundView
from worlds import objects, world

SERVICE = """
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80, name: http}]}
"""
SLICE = """
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
endpoints: [{addresses: [10.1.0.1]}]
"""
VIEW = OutboundView(namespace="default")


def test_a_snapshot_is_never_changed() -> None:
    before = world(SERVICE)
    after = before.apply(absent(objects(SERVICE)[0]))
    assert (len(before.table(Service)), len(after.table(Service))) == (1, 0)


def test_equal_objects_change_nothing() -> None:
    snapshot = world(SERVICE)
    assert snapshot.apply(present(objects(SERVICE)[0])) is snapshot


def test_groupings_follow_changes() -> None:
    snapshot = world(SLICE)
    assert list(snapshot.table(EndpointSlice).grouped(slice_owner)) == [("default", "web")]
    (one,) = objects(SLICE)
    moved = replace(one, metadata=replace(one.metadata, labels={"kubernetes.io/service-name": "shop"}))
    after = snapshot.apply(present(moved))
    assert list(after.table(EndpointSlice).grouped(slice_owner)) == [("default", "shop")]
    assert list(after.apply(absent(one)).table(EndpointSlice).grouped(slice_owner)) == []


def test_a_scope_stays_the_same_object_until_something_it_depends_on_changes() -> None:
    snapshot = world(SERVICE)
    scope = outbound(snapshot, VIEW)
    with_slice = snapshot.apply(*map(present, objects(SLICE)))
    assert outbound(with_slice, VIEW) is scope
    seen = InboundView(namespace="default", labels=(("app", "web"),))
    assert inbound(with_slice, seen) is inbound(snapshot, seen)
    other = with_slice.apply(*map(present, objects(SERVICE.replace("web", "shop"))))
    assert outbound(other, VIEW) is not scope


def test_one_edit_leaves_the_hosts_of_other_services_alone() -> None:
    snapshot = world(
        f"{SERVICE}---{SERVICE.replace('web', 'shop')}---{SERVICE.replace('name: web', 'name: far, namespace: b')}"
    )
    spec = "{hosts: [web], http: [{route: [{destination: {host: shop}}]}]}"
    edited = snapshot.apply(*map(present, objects(f"kind: VirtualService\nmetadata: {{name: v}}\nspec: {spec}")))
    before = {one.name: one for one in outbound(snapshot, VIEW).routes[0].hosts}
    after = {one.name: one for one in outbound(edited, VIEW).routes[0].hosts}
    changed = {name for name in before if before[name] is not after[name] and before[name] != after[name]}
    assert changed == {"web.default.svc.cluster.local:80"}
    assert before["far.b.svc.cluster.local:80"] is after["far.b.svc.cluster.local:80"]


def test_mesh_settings_that_cannot_be_read_leave_the_defaults_and_say_why() -> None:
    broken = ConfigMap(
        metadata=replace(objects(SERVICE)[0].metadata, name="istio", namespace="istio-system"),
        data={"mesh": "connectTimeout: soon"},
    )
    snapshot = Snapshot.of([broken])
    assert snapshot.mesh.root_namespace == "istio-system"
    assert "connectTimeout" in snapshot.mesh_problem


def test_the_memo_forgets_what_is_no_longer_asked_for() -> None:
    memo = Memo()
    for number in range(20_000):
        memo(str, number)
        assert memo(abs, -1) == 1
    assert len(memo) < 10_000
