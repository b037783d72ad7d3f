"""What proxies are told change by change is what they would be told from scratch: nothing is forgotten on the way."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dice import Dice
from mizzen.ads.store import Store
from mizzen.ads.target import find, names
from mizzen.api.base import Resource
from mizzen.controlplane.push import touched
from mizzen.controlplane.views import Views
from mizzen.envoy.resources import PUSH_ORDER
from mizzen.scope.snapshot import Change, Snapshot, absent, present
from mizzen.scope.view import GatewayView, InboundView, OutboundView
from worlds import objects

NAMESPACES, NAMES = ("default", "istio-system"), ("a", "b")
VIEWS = (
    OutboundView(namespace="default", labels=()),
    OutboundView(namespace="istio-system", labels=()),
    InboundView(namespace="default", labels=(("app", "a"), ("version", "v1"))),
    GatewayView(namespace="istio-system", labels=(("app", "a"),)),
)


def _meta(name: str, namespace: str, **more: str) -> str:
    return f"{{name: {name}, namespace: {namespace}{''.join(f', {key}: {value}' for key, value in more.items())}}}"


def _service(dice: Dice, namespace: str) -> str:
    name, kind = dice.one(NAMES), dice.one(["clusterIP: None", "clusterIP: 10.0.0.1", "clusterIP: 10.0.0.1"])
    port = f"{{port: {dice.one([80, 81])}, name: http, targetPort: 8080}}"
    spec = f"{{{kind}, selector: {{app: {name}}}, ports: [{port}]}}"
    return f"kind: Service\nmetadata: {_meta(name, namespace)}\nspec: {spec}"


def _slice(dice: Dice, namespace: str) -> str:
    """As the controller writes it: of Pods that the Service selects."""
    name = dice.one(NAMES)
    labels = f"{{kubernetes.io/service-name: {name}}}"
    target = f"targetRef: {{kind: Pod, name: {name}, namespace: {namespace}}}"
    entry = f"endpoints: [{{addresses: [10.1.0.{dice.number(1, 3)}], nodeName: node, {target}}}]"
    ports = f"ports: [{{name: http, port: {dice.one([8080, 9090])}}}]"
    return f"kind: EndpointSlice\nmetadata: {_meta(f'{name}-x', namespace, labels=labels)}\n{ports}\n{entry}"


def _pod(dice: Dice, namespace: str) -> str:
    name, sidecar = dice.one(NAMES), dice.one(["", ", security.istio.io/tlsMode: istio"])
    labels = f"{{app: {name}, version: {dice.one(['v1', 'v2'])}{sidecar}}}"
    spec = f"{{serviceAccountName: {dice.one(['one', 'two'])}}}"
    return f"kind: Pod\nmetadata: {_meta(name, namespace, labels=labels)}\nspec: {spec}"


def _peers(dice: Dice, namespace: str) -> str:
    mode = dice.one(["DISABLE", "PERMISSIVE", "STRICT", "UNSET"])
    narrow = f"selector: {{matchLabels: {{app: a}}}}, portLevelMtls: {{'8080': {{mode: {mode}}}}}"
    spec = dice.one([f"mtls: {{mode: {mode}}}", narrow])
    return f"kind: PeerAuthentication\nmetadata: {_meta(dice.one(NAMES), namespace)}\nspec: {{{spec}}}"


def _rule(dice: Dice, namespace: str) -> str:
    tls = dice.one(
        ["", "trafficPolicy: {tls: {mode: DISABLE}}, ", "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}, "]
    )
    spec = f"{{host: {dice.one(NAMES)}, {tls}subsets: [{{name: s, labels: {{version: {dice.one(['v1', 'v2'])}}}}}]}}"
    return f"kind: DestinationRule\nmetadata: {_meta('a', namespace)}\nspec: {spec}"


def _node(dice: Dice, namespace: str) -> str:
    labels = f"{{topology.kubernetes.io/zone: {dice.one(['z1', 'z2'])}}}"
    return f"kind: Node\nmetadata: {{name: node, namespace: '', labels: {labels}}}"


def _mesh(dice: Dice, namespace: str) -> str:
    settings = dice.one(["enableAutoMtls: false", "rootNamespace: default", "trustDomain: other"])
    return f"kind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{settings}'}}"


MAKERS = (_service, _slice, _slice, _pod, _pod, _peers, _peers, _rule, _node, _mesh)


def _changes(dice: Dice, snapshot: Snapshot) -> Iterator[Change]:
    """A few at once: an object that is new or replaced, or one that goes."""
    for _ in range(dice.number(1, 2)):
        (made,) = objects(dice.one(MAKERS)(dice, dice.one(NAMESPACES)))
        there: Resource | None = snapshot.get(type(made), made.metadata.namespace, made.metadata.name)
        yield absent(there) if there is not None and dice.number(0, 2) == 0 else present(made)


def _told(views: Views) -> dict[tuple[object, str, str], str]:
    found = {}
    for view in VIEWS:
        layers = views.layers((view,))
        for url in PUSH_ORDER:
            for name in names(layers, url):
                resource = find(layers, url, name)
                assert resource is not None
                found[view, url, name] = resource.version
    return found


def _full(dice: Dice) -> Snapshot:
    """Something of every kind is there."""
    text = "\n---\n".join(make(dice, namespace) for make in MAKERS for namespace in NAMESPACES for _ in range(2))
    return Snapshot.of(objects(text))


@given(seed=st.integers(0, 100_000))
def test_step_by_step_proxies_hold_what_they_would_be_told_from_scratch(seed: int) -> None:
    dice = Dice(seed)
    snapshot = _full(dice)
    views = Views(Store(), snapshot)
    views.enter(VIEWS)
    for _ in range(4):
        changes = tuple(_changes(dice, snapshot))
        before, snapshot = snapshot, snapshot.apply(*changes)
        views.advance(snapshot, touched(before, snapshot, changes))
    fresh = Views(Store(), snapshot)
    fresh.enter(VIEWS)
    assert _told(views) == _told(fresh)
    assert views.failures == 0
