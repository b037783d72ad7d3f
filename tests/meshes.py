"""Whole meshes by chance: what users apply, kept only where admission would accept it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

import drawn
from dice import Dice
from mizzen.api import networking as api
from mizzen.api.base import Metadata, Resource
from mizzen.api.decode import convert, to_json
from mizzen.api.validate import validate
from stories import KINDS

NAMESPACES = ["default", "other"]
HOSTS = ["a", "b", "a.default.svc.cluster.local", "c.other.svc.cluster.local", "*.default.svc.cluster.local"]
OUTSIDE = ["a.example.com", "*.example.com", "A.example.com", "shop.example.org", "*"]
PORT_NAMES = ["http", "http2-x", "grpc", "tcp", "https", "tls", "mongo", "", "redis"]


def mesh_objects(seed: int) -> list[Resource]:
    """Services, Gateways, VirtualServices and DestinationRules, some of which contradict each other."""
    dice = Dice(seed)
    drawn = [
        *(service(dice, name, namespace) for name in "abc" for namespace in NAMESPACES),
        *dice.several(lambda: gateway(dice), most=3),
        *dice.several(lambda: virtual_service(dice), most=6),
        *dice.several(lambda: destination_rule(dice), most=4),
    ]
    return list(accepted(drawn))


def accepted(documents: Iterable[dict[str, Any]]) -> Iterable[Resource]:
    for number, document in enumerate(documents):
        document["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{number:02}Z"
        if not any(problem.level == "error" for problem in validate(document)):
            yield convert(document, KINDS[document["kind"]])


def service(dice: Dice, name: str, namespace: str) -> dict[str, Any]:
    words = {dice.one(PORT_NAMES): port for port in (80, 81, 443)}
    ports = [{"name": word, "port": port, "targetPort": dice.one([port, 8080])} for word, port in words.items()]
    address = dice.one([f"10.96.{'abc'.index(name)}.{NAMESPACES.index(namespace)}", "None"])
    spec: dict[str, Any] = {"clusterIP": address, "ports": ports, "selector": {"app": name}}
    if dice.number(0, 9) == 0:
        spec = {
            "type": "ExternalName",
            "externalName": dice.one(["a.default.svc.cluster.local", "example.com"]),
            "ports": ports,
        }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _object(dice: Dice, kind: str, spec: Any) -> dict[str, Any]:
    metadata = Metadata(name=f"r{dice.number(0, 99)}", namespace=dice.one(NAMESPACES))
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": to_json(metadata), "spec": to_json(spec)}


def gateway(dice: Dice) -> dict[str, Any]:
    def server() -> api.Server:
        protocol = dice.one(["HTTP", "HTTP", "HTTP2", "GRPC", "TCP", "TLS", "HTTPS"])
        tls = api.ServerTLSSettings(mode="PASSTHROUGH") if protocol in ("TLS", "HTTPS") else None
        redirect = api.ServerTLSSettings(https_redirect=True) if protocol == "HTTP" and dice.coin() else None
        port = api.Port(number=dice.one([8080, 8081, 8443]), name=f"p{dice.number(0, 999)}", protocol=protocol)
        hosts = dice.several(lambda: dice.one(["", "./", "*/", "other/"]) + dice.one(OUTSIDE), least=1)
        return api.Server(port=port, hosts=hosts, tls=tls or redirect)

    spec = api.GatewaySpec(selector={"istio": "ingressgateway"}, servers=dice.several(server, least=1))
    document = _object(dice, "Gateway", spec)
    document["metadata"]["name"] = dice.one(["front", "back"])
    return document


def virtual_service(dice: Dice) -> dict[str, Any]:
    gateways = dice.one([(), ("mesh",), ("front",), ("default/front", "mesh"), ("other/back", "front")])
    hosts = tuple(dict.fromkeys(dice.several(lambda: dice.one([*HOSTS, *OUTSIDE]), least=1)))
    named = [host for host in hosts if "." in host]
    spec = api.VirtualServiceSpec(
        hosts=hosts,
        gateways=gateways,
        http=dice.several(lambda: http_route(dice), most=4, least=1),
        tls=dice.several(lambda: tls_route(dice, named), most=2) if named and dice.coin() else (),
        tcp=dice.several(lambda: tcp_route(dice), most=2) if dice.coin() else (),
        export_to=dice.one([(), ("*",), (".",)]),
    )
    return _object(dice, "VirtualService", spec)


def destination(dice: Dice) -> api.Destination:
    return api.Destination(
        host=dice.one(["a", "b", "c.other.svc.cluster.local", "nowhere"]),
        subset=dice.one(["", "v1", "v9"]),
        port=dice.one([None, api.PortSelector(number=dice.one([80, 81, 443, 9999]))]),
    )


def http_route(dice: Dice) -> api.HTTPRoute:
    matches = dice.several(lambda: _http_match(dice))
    common = {"name": dice.one(["", "main"]), "match": matches, "headers": dice.maybe(lambda: drawn.headers(dice))}
    kind = dice.one(["route", "route", "route", "redirect", "direct"])
    if kind == "redirect":
        return api.HTTPRoute(redirect=drawn.redirect(dice), **common)
    if kind == "direct":
        return api.HTTPRoute(direct_response=api.HTTPDirectResponse(status=dice.one(drawn.STATUS)), **common)
    return api.HTTPRoute(
        route=dice.several(lambda: _http_destination(dice), least=1),
        timeout=dice.maybe(dice.duration),
        retries=dice.maybe(lambda: drawn.retries(dice)),
        rewrite=dice.maybe(lambda: drawn.rewrite(dice)),
        fault=dice.maybe(lambda: drawn.fault(dice)),
        cors_policy=dice.maybe(lambda: drawn.cors(dice)),
        mirror=dice.maybe(lambda: destination(dice)),
        mirror_percentage=dice.maybe(lambda: drawn.percent(dice)),
        **common,
    )


def _http_match(dice: Dice) -> api.HTTPMatchRequest:
    draw = drawn.http_match(dice)
    fields = {name: getattr(draw, name) for name in draw.__struct_fields__}
    asked = {"port": dice.one([0, 0, 80, 8080]), "gateways": dice.one([(), (), ("mesh",), ("front",)])}
    return api.HTTPMatchRequest(**{**fields, **asked, "source_labels": dice.one([{}, {"app": "own"}])})


def _http_destination(dice: Dice) -> api.HTTPRouteDestination:
    headers = dice.maybe(lambda: drawn.headers(dice))
    return api.HTTPRouteDestination(
        destination=destination(dice), weight=dice.one([0, 1, 50, 2**31 - 1]), headers=headers
    )


def tls_route(dice: Dice, hosts: list[str]) -> api.TLSRoute:
    match = api.TLSMatchAttributes(
        sni_hosts=dice.several(lambda: dice.one(hosts), least=1),
        port=dice.one([0, 443]),
        destination_subnets=dice.one([(), ("10.0.0.0/8",)]),
    )
    return api.TLSRoute(match=(match,), route=_shares(dice))


def tcp_route(dice: Dice) -> api.TCPRoute:
    match = api.L4MatchAttributes(
        port=dice.one([0, 80, 8081]), destination_subnets=dice.one([(), ("10.96.0.0/16", "1.2.3.4")])
    )
    return api.TCPRoute(match=dice.one([(), (match,)]), route=_shares(dice))


def _shares(dice: Dice) -> tuple[api.RouteDestination, ...]:
    return dice.several(
        lambda: api.RouteDestination(destination=destination(dice), weight=dice.one([0, 1, 99])), least=1
    )


def traffic_policy(dice: Dice) -> api.TrafficPolicy:
    """Without what is refused as not honoured yet."""
    return replace(drawn.traffic_policy(dice), retry_budget=None)


def destination_rule(dice: Dice) -> dict[str, Any]:
    def subset(name: str) -> api.SubsetSpec:
        return api.SubsetSpec(
            name=name, labels={"version": name}, traffic_policy=dice.maybe(lambda: traffic_policy(dice))
        )

    spec = api.DestinationRuleSpec(
        host=dice.one(HOSTS),
        traffic_policy=dice.maybe(lambda: traffic_policy(dice)),
        subsets=tuple(subset(name) for name in dice.one([(), ("v1",), ("v1", "v2")])),
        export_to=dice.one([(), ("*",), (".",)]),
    )
    return _object(dice, "DestinationRule", spec)
