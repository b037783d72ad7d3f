from __future__ import annotations

import pytest

from mizzen.ads.blame import blame
from mizzen.ads.session import DeltaSession
from mizzen.ads.sotw import SotwSession
from mizzen.ads.store import Store
from mizzen.ads.target import Layers
from mizzen.ads.wire import DeltaRequest, Node, SotwRequest
from mizzen.envoy.messages import DeltaDiscoveryResponse, DiscoveryResponse
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Resource


def layers(**by_type: dict[str, str]) -> Layers:
    urls = {"clusters": CLUSTER, "listeners": LISTENER, "routes": ROUTES, "ecds": EXTENSION, "endpoints": ENDPOINTS}
    return (
        {
            urls[kind]: {name: Resource.of(name, text.encode()) for name, text in named.items()}
            for kind, named in by_type.items()
        },
    )


def read(bodies: list[bytes]) -> list:
    return [DeltaDiscoveryResponse.FromString(body) for body in bodies]


def names(bodies: list[bytes]) -> list[tuple[str, list[str], list[str]]]:
    return [
        (one.type_url.rpartition(".")[2], [r.name for r in one.resources], list(one.removed_resources))
        for one in read(bodies)
    ]


def ack(session: DeltaSession, body: bytes, error: str | None = None) -> list[bytes]:
    response = DeltaDiscoveryResponse.FromString(body)
    return session.on_request(DeltaRequest(response.type_url, nonce=response.nonce, error=error))


def settled(target: Layers, *types: DeltaRequest) -> DeltaSession:
    session = DeltaSession(Store())
    session.publish(target)
    for request in types:
        for body in session.on_request(request):
            ack(session, body)
    assert session.settled
    return session


SUBSCRIBED = (DeltaRequest(CLUSTER), DeltaRequest(LISTENER), DeltaRequest(ROUTES, subscribe=("web",)))


def test_routes_wait_for_new_clusters_and_old_clusters_leave_last() -> None:
    session = settled(layers(clusters={"a": "1"}, listeners={"l": "1"}, routes={"web": "a"}), *SUBSCRIBED)
    first = session.publish(layers(clusters={"b": "1"}, listeners={"l": "1"}, routes={"web": "b"}))
    assert names(first) == [("Cluster", ["b"], [])]
    second = ack(session, first[0])
    assert names(second) == [("RouteConfiguration", ["web"], [])]
    third = ack(session, second[0])
    assert names(third) == [("Cluster", [], ["a"])]
    assert ack(session, third[0]) == []
    assert session.settled


def test_while_a_response_is_under_way_only_the_latest_counts() -> None:
    session = settled(layers(listeners={"l": "1"}), DeltaRequest(LISTENER))
    first = session.publish(layers(listeners={"l": "2"}))
    assert session.publish(layers(listeners={"l": "3"})) == []
    assert session.publish(layers(listeners={"l": "4"})) == []
    after = read(ack(session, first[0]))
    assert [one.resources[0].resource.value for one in after] == [b"4"]


def test_back_to_what_the_proxy_holds_needs_nothing() -> None:
    session = settled(layers(listeners={"l": "1"}), DeltaRequest(LISTENER))
    first = session.publish(layers(listeners={"l": "2"}))
    session.publish(layers(listeners={"l": "1"}))
    refused = ack(session, first[0], "Error adding/updating listener(s) l: no")
    assert refused == []
    assert session.settled


def test_an_empty_world_is_still_answered() -> None:
    session = DeltaSession(Store())
    session.publish(())
    first = session.on_request(DeltaRequest(CLUSTER))
    assert names(first) == [("Cluster", [], [])]
    ack(session, first[0])
    assert names(session.on_request(DeltaRequest(LISTENER))) == [("Listener", [], [])]


def test_what_is_asked_for_and_not_there_is_answered_but_for_extensions() -> None:
    session = settled(layers())
    assert names(session.on_request(DeltaRequest(ROUTES, subscribe=("x",)))) == [("RouteConfiguration", [], ["x"])]
    assert session.on_request(DeltaRequest(EXTENSION, subscribe=("x",))) == []


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    subscribed = (DeltaRequest(CLUSTER), DeltaRequest(ENDPOINTS, subscribe=("a",)))
    session = settled(layers(clusters={"a": "1"}, endpoints={"a": "e"}), *subscribed)
    sent = session.publish(layers(clusters={"a": "2"}, endpoints={"a": "e"}))
    assert names(sent) == [("Cluster", ["a"], []), ("ClusterLoadAssignment", ["a"], [])]


def test_a_reconnected_proxy_gets_endpoints_of_a_changed_cluster_too() -> None:
    target = layers(clusters={"a": "2"}, endpoints={"a": "e"})
    session = DeltaSession(Store())
    session.publish(target)
    session.on_request(DeltaRequest(CLUSTER, initial_versions={"a": "old"}))
    version = target[0][ENDPOINTS]["a"].version
    request = DeltaRequest(ENDPOINTS, subscribe=("a",), initial_versions={"a": version})
    assert names(session.on_request(request)) == [("ClusterLoadAssignment", ["a"], [])]


def test_endpoints_of_a_changed_cluster_come_again_after_a_refusal_that_was_not_theirs() -> None:
    """Envoy ends the wait of all clusters at a refusal, and has them go on without endpoints."""
    subscribed = (DeltaRequest(CLUSTER), DeltaRequest(ENDPOINTS, subscribe=("a", "b")))
    session = settled(layers(clusters={"a": "1"}, endpoints={"a": "e", "b": "e"}), *subscribed)
    _, sent = session.publish(layers(clusters={"a": "2"}, endpoints={"a": "e", "b": "wrong"}))
    assert names(ack(session, sent, "b: is wrong")) == [("ClusterLoadAssignment", ["a"], [])]


def test_a_cluster_whose_endpoints_were_refused_does_not_wait_for_them() -> None:
    subscribed = (DeltaRequest(CLUSTER), DeltaRequest(ENDPOINTS, subscribe=("a",)))
    session = settled(layers(clusters={"a": "1"}, endpoints={"a": "e"}), *subscribed)
    (sent,) = session.publish(layers(clusters={"a": "1"}, endpoints={"a": "wrong"}))
    assert ack(session, sent, "it is wrong") == []
    sent = session.publish(layers(clusters={"a": "2"}, endpoints={"a": "wrong"}))
    assert names(sent) == [("Cluster", ["a"], []), ("ClusterLoadAssignment", [], ["a"])]
    for body in sent:
        assert ack(session, body) == []
    again = session.on_request(DeltaRequest(ENDPOINTS, subscribe=("a",)))
    assert names(again) == [("ClusterLoadAssignment", [], ["a"])]


def test_who_asks_for_what_it_refused_is_told_again() -> None:
    session = settled(layers(routes={"a": "wrong"}))
    (sent,) = session.on_request(DeltaRequest(ROUTES, subscribe=("a",)))
    assert ack(session, sent, "it is wrong") == []
    again = session.on_request(DeltaRequest(ROUTES, subscribe=("a",)))
    assert names(again) == [("RouteConfiguration", ["a"], [])]


def test_who_comes_back_without_a_word_of_clusters_waits_for_endpoints() -> None:
    """Envoy 1.40 speaks of clusters once none waits, and asks for endpoints as if it wanted none that it has."""
    target = layers(clusters={"a": "2"}, endpoints={"a": "e"})
    session = DeltaSession(Store())
    session.publish(target)
    holds = {"a": target[0][ENDPOINTS]["a"].version}
    again = session.on_request(DeltaRequest(ENDPOINTS, subscribe=("a",), initial_versions=holds))
    assert names(again) == [("ClusterLoadAssignment", ["a"], [])]


@pytest.mark.parametrize(
    ("url", "sent", "message", "refused", "unknown"),
    [
        (CLUSTER, "a,b", "Error adding/updating cluster(s) b: no, c: no", "b", ""),
        (CLUSTER, "a,a.b", "Error adding/updating cluster(s) a.b: bad", "a.b", ""),
        (LISTENER, "_80,_8080", "Error adding/updating listener(s) _8080: bad\n", "_8080", ""),
        (CLUSTER, "a,b", "something else", "", "a,b"),
        (CLUSTER, "a,b", "x" * 4096 + " b: no", "b", "a"),
        (ROUTES, "a,b", "b: unknown cluster", "b", "a"),
        (ROUTES, "a", "whatever", "a", ""),
    ],
)  # fmt: skip
def test_whom_a_refusal_means(url: str, sent: str, message: str, refused: str, unknown: str) -> None:
    resources = tuple(Resource.of(name, b"x") for name in sent.split(","))
    found = blame(url, Store().delta(url, resources, ("gone",)), message)
    assert found == (set(filter(None, refused.split(","))), set(filter(None, unknown.split(","))))


def test_those_that_a_refusal_does_not_name_travel_alone() -> None:
    session = settled(layers(), DeltaRequest(ROUTES, subscribe=("a", "b")))
    sent = session.publish(layers(routes={"a": "1", "b": "1"}))
    again = ack(session, sent[0], "something is wrong")
    assert names(again) == [("RouteConfiguration", ["a"], []), ("RouteConfiguration", ["b"], [])]
    assert ack(session, again[0], "something is wrong") == []
    assert ack(session, again[1]) == []
    assert set(session.held(ROUTES)) == {"b"}
    assert session.publish(layers(routes={"a": "1", "b": "1"})) == []


def test_equal_responses_are_framed_once_for_all() -> None:
    store, target = Store(), layers(listeners={"l": "1"})
    one, other = DeltaSession(store), DeltaSession(store)
    bodies = []
    for session in (one, other):
        session.publish(target)
        bodies += session.on_request(DeltaRequest(LISTENER))
    assert bodies[0] is bodies[1]


def test_node_ids() -> None:
    parts = Node("sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local").parts
    assert parts == ("sidecar", "10.0.0.1", "web-1", "shop")
    for wrong in ("web", "sidecar~10.0.0.1~web-1.shop~bank.svc.cluster.local", "sidecar~~web~x"):
        with pytest.raises(ValueError, match="node id"):
            Node(wrong).parts  # noqa: B018 - it raises


# State of the world


def world(session: SotwSession, request: SotwRequest) -> list:
    return [DiscoveryResponse.FromString(body) for body in session.on_request(request)]


def test_state_of_the_world_sends_all_and_nothing_when_the_version_is_known() -> None:
    store, target = Store(), layers(clusters={"a": "1", "b": "1"})
    session = SotwSession(store)
    session.publish(target)
    [response] = world(session, SotwRequest(CLUSTER))
    assert [one.value for one in response.resources] == [b"1", b"1"]
    assert world(session, SotwRequest(CLUSTER, version=response.version_info, nonce=response.nonce)) == []
    assert session.settled
    again = SotwSession(store)
    again.publish(target)
    assert world(again, SotwRequest(CLUSTER, version=response.version_info)) == []


def test_state_of_the_world_follows_names_and_never_repeats_a_refused_version() -> None:
    session = SotwSession(Store())
    session.publish(layers(routes={"a": "1", "b": "1"}))
    [first] = world(session, SotwRequest(ROUTES, names=("a",)))
    [second] = world(session, SotwRequest(ROUTES, version=first.version_info, nonce=first.nonce, names=("a", "b")))
    assert len(second.resources) == 2
    nack = SotwRequest(ROUTES, version=first.version_info, nonce=second.nonce, names=("a", "b"), error="no")
    assert world(session, nack) == []
    assert session.settled
    assert session.publish(layers(routes={"a": "1", "b": "1"})) == []
    assert len(session.publish(layers(routes={"a": "1", "b": "2"}))) == 1
