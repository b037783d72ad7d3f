"""Which Ingresses are ours, and what is said about them."""

from __future__ import annotations

import pytest

from mizzen.api.core import Service
from mizzen.api.ingress import Ingress, IngressClass
from mizzen.scope.ingress_references import ingress_references
from mizzen.scope.ingresses import gateway_selector, is_served, translated
from mizzen.scope.references import findings
from mizzen.scope.resolve import gateway
from mizzen.scope.snapshot import Snapshot, present
from mizzen.scope.view import GatewayView
from worlds import MAY_LIST_SECRETS, objects, world

VIEW = GatewayView(namespace="istio-system", labels=(("istio", "ingressgateway"),))
CLASSES = """
kind: IngressClass
metadata: {name: ours, namespace: ""}
spec: {controller: istio.io/ingress-controller}
---
kind: IngressClass
metadata: {name: theirs, namespace: ""}
spec: {controller: example.com/other}
"""
WEB = """
---
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.8, ports: [{port: 80, name: http}]}
"""
LOST = "defaultBackend: {service: {name: lost, port: {number: 80}}}"
DEFAULT_BACKEND = "defaultBackend: {service: {name: web, port: {number: 80}}}"


def ingress(spec: str = DEFAULT_BACKEND, annotation: str | None = "istio", named: str = "", name: str = "web") -> str:
    annotations = f"{{kubernetes.io/ingress.class: '{annotation}'}}" if annotation is not None else "{}"
    wanted = f"ingressClassName: {named}, " if named else ""
    return f"\n---\nkind: Ingress\nmetadata: {{name: {name}, annotations: {annotations}}}\nspec: {{{wanted}{spec}}}"


def mesh(settings: str) -> str:
    return f"\n---\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{settings}'}}"


@pytest.mark.parametrize(
    ("annotation", "named", "settings", "ours"),
    [
        ("istio", "", "", True),
        ("nginx", "", "", False),
        ("nginx", "ours", "", False),  # the annotation beats the class
        ("istio", "theirs", "", True),
        ("own", "", "ingressClass: own", True),
        (None, "ours", "", True),
        (None, "theirs", "ingressControllerMode: DEFAULT", False),
        (None, "nowhere", "", False),
        (None, "", "", False),
        (None, "", "ingressControllerMode: DEFAULT", True),
        ("istio", "", "ingressControllerMode: DEFAULT", True),
        ("istio", "", "ingressControllerMode: 'OFF'", False),
        (None, "ours", "ingressControllerMode: 'OFF'", False),
    ],
)
def test_class_and_mode_say_whose_it_is(annotation: str | None, named: str, settings: str, ours: bool) -> None:
    quoted = settings.replace("'", '"')
    snapshot = world(CLASSES + ingress(annotation=annotation, named=named) + (mesh(quoted) if settings else ""))
    (one,) = snapshot.table(Ingress)
    assert is_served(one, snapshot.table(IngressClass), snapshot.mesh) is ours
    assert len(translated(snapshot).gateways) == ours


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ("{}", "ingressgateway"),
        ("ingressSelector: edge", "edge"),
        ('ingressSelector: ""', "ingressgateway"),
        ('{ingressSelector: "", ingressService: edge}', "edge"),
        ('{ingressSelector: "", ingressService: ""}', "ingressgateway"),
    ],
)
def test_the_gateway_is_found_by_selector_else_by_service(settings: str, label: str) -> None:
    assert gateway_selector(world(mesh(settings)).mesh) == {"istio": label}


def test_what_does_not_concern_an_ingress_leaves_everything_as_it_is() -> None:
    named = "defaultBackend: {service: {name: web, port: {name: http}}}"
    before = world(WEB + ingress(named))
    (other,) = objects("kind: Service\nmetadata: {name: other}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 81}]}")
    after = before.apply(present(other))
    assert translated(before) is translated(before)
    assert all(
        old is new
        for old, new in zip(translated(before).virtual_services, translated(after).virtual_services, strict=True)
    )
    moved = after.apply(*(present(one) for one in objects(WEB.replace("port: 80", "port: 81"))))
    assert moved.get(Service, "default", "web") is not None
    (old,), (new,) = (translated(one).virtual_services for one in (after, moved))
    assert old != new


def test_without_ingresses_nothing_is_translated() -> None:
    assert translated(Snapshot()) is translated(world(WEB))


def test_what_is_wrong_with_its_gateway_is_said_of_the_ingress() -> None:
    tls = "tls: [{hosts: [plain.org]}, {hosts: [a.org], secretName: cert}], " + DEFAULT_BACKEND
    (told,) = gateway(world(WEB + MAY_LIST_SECRETS + ingress(tls)), VIEW).problems
    assert (told.kind, told.namespace, told.name, told.path) == ("Ingress", "default", "web", "spec.tls[1].secretName")
    assert "Secret cert is not in namespace istio-system" in told.message


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        (LOST, "spec.defaultBackend.service.name", "no Service lost"),
        (
            "rules: [{http: {paths: [{path: /, backend: {service: {name: web, port: {name: grpc}}}}]}}]",
            "spec.rules[0].http.paths[0].backend.service.port",
            "has no port grpc, only 80 (http)",
        ),
    ],
)
def test_backends_that_are_not_there_are_named(spec: str, path: str, words: str) -> None:
    snapshot = world(WEB + ingress(spec))
    (told,) = findings(snapshot)
    assert (told.kind, told.path) == ("Ingress", path)
    assert words in told.message
    assert ingress_references(snapshot, next(iter(snapshot.table(Ingress)))) == (told,)


def test_a_class_of_our_name_that_is_missing_is_named() -> None:
    (told,) = findings(world(WEB + ingress(annotation=None, named="istio")))
    assert "There is no IngressClass istio" in told.message
    assert findings(world(WEB + ingress(LOST, "nginx"))) == ()
