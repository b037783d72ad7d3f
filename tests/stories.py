"""Golden stories: what is given, for whom, what to look at, and what to expect there.

    given: |            documents as a user would apply them
    services:           shorthand for Services: {reviews.default: {9080: http}}
    secrets:            certificates for these names, with `roots` their authority, too: {c.default: {names: [a]}}
    readers:            whether service accounts may read Secrets: {sleep.default: true}
    for: sleep.default  a sidecar, by Pod and namespace; in full {sidecar: sleep.default, labels: {…}, ipv6: true}; or
                        {gateway: …}
    show: routes/9080/reviews*
    expect:             the part of it that matters: keys and values that must be there, lists in full

`show` is `routes/TABLE/HOST` (the routes of a virtual host, by glob), `hosts/TABLE/HOST` (all of it), `domains/TABLE`
(virtual host names and domains), `clusters/NAME`, `listeners/NAME`, `endpoints/CLUSTER`, `slots/NAME` (a filter whose
contents travel apart), or `names/KIND` (sorted).
Several `checks` (each a show and an expect) may stand in place of one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from google.protobuf.json_format import MessageToDict

from mizzen.api.base import Metadata
from mizzen.api.base import Resource as ApiObject
from mizzen.api.core import Secret
from mizzen.api.decode import convert
from mizzen.api.documents import load
from mizzen.ca.authority import Root, new_root, sign_serving
from mizzen.envoy.descriptors import api
from mizzen.envoy.messages import Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, TypedExtensionConfig
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, Resource, Resources
from mizzen.scope import endpoints as scope_endpoints
from mizzen.scope import resolve
from mizzen.scope.model import GatewayScope, InboundScope, OutboundScope
from mizzen.scope.snapshot import WATCHED, SecretReader, Snapshot
from mizzen.scope.view import Proxy, gateway_view, inbound_view, outbound_view
from mizzen.xds import translate
from mizzen.xds.endpoints import cluster_load_assignment

GOLDEN = Path(__file__).parent / "golden"
KINDS = {kind.__name__: kind for kind in WATCHED}
MESSAGES = {
    CLUSTER: Cluster,
    ENDPOINTS: ClusterLoadAssignment,
    LISTENER: Listener,
    ROUTES: RouteConfiguration,
    EXTENSION: TypedExtensionConfig,
}
WORDS = {"slots": EXTENSION, "clusters": CLUSTER, "endpoints": ENDPOINTS, "listeners": LISTENER, "routes": ROUTES}


@dataclass(frozen=True)
class Story:
    name: str
    snapshot: Snapshot
    proxy: Proxy
    gateway: bool
    checks: tuple[tuple[str, Any], ...]
    """What to show, and what to expect there."""


@dataclass(frozen=True)
class Scopes:
    """What one proxy is told, before it is written for Envoy."""

    outbound: OutboundScope | None
    inbound: InboundScope | None
    gateway: GatewayScope | None


def stories() -> list[Path]:
    return sorted(GOLDEN.rglob("*.yaml"))


def story(path: Path) -> Story:
    told = yaml.load(path.read_text(), yaml.CSafeLoader)
    teller = told["for"] if isinstance(told["for"], dict) else {"sidecar": told["for"]}
    name, _, namespace = (teller.get("gateway") or teller["sidecar"]).rpartition(".")
    checks = told.get("checks") or [{"show": told["show"], "expect": told["expect"]}]
    return Story(
        name=str(path.relative_to(GOLDEN)),
        snapshot=Snapshot.of(
            [
                *services(told.get("services", {})),
                *secrets(told.get("secrets", {})),
                *readers(told.get("readers", {f"default.{namespace}": "gateway" in teller})),
                *objects(told.get("given", "")),
            ]
        ),
        proxy=Proxy(
            name=name,
            namespace=namespace,
            labels=teller.get("labels", {}),
            ipv6=teller.get("ipv6", False),
            foreign_certificates=teller.get("foreignCertificates", False),
        ),
        gateway="gateway" in teller,
        checks=tuple((check["show"], check["expect"]) for check in checks),
    )


def objects(text: str, default_namespace: str = "default") -> Iterable[ApiObject]:
    """Documents of kinds that a snapshot keeps. What names no namespace belongs to the default one, as with kubectl."""
    for document in load(text):
        value = dict(document.value)
        value["metadata"] = {"namespace": default_namespace, **value.get("metadata", {})}
        yield convert(value, KINDS[value["kind"]])


def services(shorthand: Mapping[str, Mapping[int, str]]) -> Iterable[ApiObject]:
    """`{reviews.default: {9080: http}}`; cluster addresses 10.96.0.1, .2 and so on. An empty port name is none."""
    for number, (name, ports) in zip(count(1), shorthand.items(), strict=False):
        service, _, namespace = name.rpartition(".")
        entries = [{"port": port, "name": word, "targetPort": port} for port, word in ports.items()]
        spec = {"clusterIP": f"10.96.0.{number}", "ports": entries, "selector": {"app": service}}
        yield convert(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service, "namespace": namespace},
                "spec": spec,
            },
            KINDS["Service"],
        )


def secrets(shorthand: Mapping[str, Mapping[str, Any]]) -> Iterable[ApiObject]:
    for full, wanted in shorthand.items():
        name, _, namespace = full.rpartition(".")
        key, chain = sign_serving(_root(), wanted["names"], datetime.now(UTC), x509.random_serial_number())
        entries = {"tls.crt": chain, "tls.key": key, **({"ca.crt": _root().to_pem()[0]} if wanted.get("roots") else {})}
        data = {entry: base64.b64encode(content).decode() for entry, content in entries.items()}
        yield Secret(metadata=Metadata(name=name, namespace=namespace), data=data)


@cache
def _root() -> Root:
    return new_root("stories", datetime.now(UTC), x509.random_serial_number())


def readers(shorthand: Mapping[str, bool]) -> Iterable[ApiObject]:
    for full, allowed in shorthand.items():
        name, _, namespace = full.rpartition(".")
        yield SecretReader(metadata=Metadata(name=name, namespace=namespace), allowed=allowed)


def scopes(snapshot: Snapshot, proxy: Proxy, *, gateway: bool) -> Scopes:
    if gateway:
        return Scopes(None, None, resolve.gateway(snapshot, gateway_view(snapshot, proxy)))
    return Scopes(
        resolve.outbound(snapshot, outbound_view(snapshot, proxy)),
        resolve.inbound(snapshot, inbound_view(snapshot, proxy)),
        None,
    )


def world(found: Scopes, snapshot: Snapshot, namespace: str) -> Resources:
    """Everything one proxy is told, endpoints included."""
    if found.gateway:
        parts = [translate.gateway(found.gateway)]
        subsets = found.gateway.subsets
    else:
        assert found.outbound and found.inbound
        parts = [translate.outbound(found.outbound), translate.inbound(found.inbound)]
        subsets = found.outbound.subsets
    assignments = {
        each.cluster: cluster_load_assignment(each.cluster, scope_endpoints.endpoints_of(snapshot, each))
        for each in subsets
        if each.resolution == "EDS"
    }
    told = {
        url: {name: one for part in parts for name, one in part.get(url, {}).items()}
        for url in (CLUSTER, LISTENER, ROUTES, SECRET, EXTENSION)
    }
    return {**told, ENDPOINTS: assignments}


def written(path: Path) -> Resources:
    found = story(path)
    return world(scopes(found.snapshot, found.proxy, gateway=found.gateway), found.snapshot, found.proxy.namespace)


def readable(type_url: str, resource: Resource) -> dict[str, Any]:
    """As Envoy's own configuration files are written."""
    message = MESSAGES[type_url].FromString(resource.body)
    return MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=api().pool)


def shown(path: str, told: Resources) -> Any:
    kind, _, rest = path.partition("/")
    if kind == "names":
        return sorted(told[WORDS[rest]])
    if kind == "domains":
        return {each["name"]: each["domains"] for each in readable(ROUTES, told[ROUTES][rest])["virtual_hosts"]}
    if kind in ("routes", "hosts"):
        table, _, host = rest.rpartition("/")
        hosts = readable(ROUTES, told[ROUTES][table])["virtual_hosts"]
        (only,) = [each for each in hosts if fnmatchcase(each["name"], host)]
        return only if kind == "hosts" else only.get("routes", [])
    return readable(WORDS[kind], told[WORDS[kind]][rest])


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks what is expected. Mappings may hold more than that, lists may not; null means absent."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key, value in expected.items()
            for line in _differences_at(value, found, key, f"{path}.{key}".lstrip("."))
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for index, pair in enumerate(zip(expected, found, strict=True))
            for line in differences(*pair, f"{path}[{index}]")
        ]
    return [] if expected == found else [f"{path}: expected {expected!r}, found {found!r}"]


def _differences_at(expected: Any, found: dict[str, Any], key: str, path: str) -> list[str]:
    if expected is None:
        return [f"{path}: expected nothing, found {found[key]!r}"] if key in found else []
    return differences(expected, found[key], path) if key in found else [f"{path}: is missing"]
