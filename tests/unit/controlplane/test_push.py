from __future__ import annotations

from mizzen.api.base import Metadata
from mizzen.api.core import Node, Pod, PodSpec, Service, ServicePort, ServiceSpec
from mizzen.api.discovery import EndpointSlice
from mizzen.api.networking import VirtualService, VirtualServiceSpec
from mizzen.api.peer_authentication import PeerAuthentication, PeerAuthenticationSpec
from mizzen.controlplane.push import LONGEST_PAUSE, Pace, touched
from mizzen.scope.snapshot import Snapshot, absent, present

REVIEWS = "reviews.default.svc.cluster.local"


def service(name: str, **spec: object) -> Service:
    made = ServiceSpec(ports=(ServicePort(port=80),), selector={"app": name}, cluster_ip="10.0.0.1", **spec)
    return Service(metadata=Metadata(name=name, namespace="default"), spec=made)


def slice_of(name: str) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": name}
    return EndpointSlice(metadata=Metadata(name=f"{name}-x", namespace="default", labels=labels))


def pod(app: str) -> Pod:
    return Pod(metadata=Metadata(name="p", namespace="default", labels={"app": app}), spec=PodSpec())


SNAPSHOT = Snapshot.of([service("reviews"), service("ratings")])


def test_endpoints_touch_their_own_service_and_no_scope() -> None:
    change = present(slice_of("reviews"))
    found = touched(SNAPSHOT, SNAPSHOT.apply(change), [change])
    assert (found.scopes, found.hosts, found.all_endpoints) == (False, {REVIEWS}, False)


def test_a_pod_touches_the_services_that_select_it_before_or_after() -> None:
    before = SNAPSHOT.apply(present(pod("reviews")))
    change = present(pod("ratings"))
    found = touched(before, before.apply(change), [change])
    assert found.hosts == {REVIEWS, "ratings.default.svc.cluster.local"}
    assert found.pods == {("default", "p")}
    assert not found.scopes


def test_a_pod_that_is_gone_still_touches() -> None:
    before = SNAPSHOT.apply(present(pod("reviews")))
    change = absent(pod("reviews"))
    assert touched(before, before.apply(change), [change]).hosts == {REVIEWS}


def test_rules_touch_scopes_and_nodes_all_localities() -> None:
    rule = present(VirtualService(metadata=Metadata(name="r", namespace="default"), spec=VirtualServiceSpec()))
    node = present(Node(metadata=Metadata(name="n"), spec={}))
    assert touched(SNAPSHOT, SNAPSHOT.apply(rule), [rule]).scopes
    found = touched(SNAPSHOT, SNAPSHOT.apply(node), [node])
    assert (found.scopes, found.all_endpoints) == (False, True)


def test_peer_authentication_touches_endpoints_too() -> None:
    """They carry whether they take mesh TLS."""
    policy = present(
        PeerAuthentication(metadata=Metadata(name="p", namespace="default"), spec=PeerAuthenticationSpec())
    )
    found = touched(SNAPSHOT, SNAPSHOT.apply(policy), [policy])
    assert (found.scopes, found.all_endpoints) == (True, True)


def test_endpoints_of_a_headless_service_touch_scopes() -> None:
    headless = Service(
        metadata=Metadata(name="db", namespace="default"),
        spec=ServiceSpec(ports=(ServicePort(port=80),), cluster_ip="None"),
    )
    snapshot = Snapshot.of([headless])
    change = present(slice_of("db"))
    assert touched(snapshot, snapshot.apply(change), [change]).scopes


def test_the_first_push_goes_at_once_and_an_expensive_one_makes_the_next_wait() -> None:
    pace = Pace()
    assert pace.pause(100.0) == 0.0
    pace.pushed(100.0, 100.001)
    assert pace.pause(100.001) == 0.0
    pace.pushed(101.0, 101.04)
    assert round(pace.pause(101.05), 3) == 0.03
    pace.pushed(102.0, 105.0)
    assert round(pace.pause(105.0), 3) == LONGEST_PAUSE
    assert pace.pause(106.0) == 0.0
