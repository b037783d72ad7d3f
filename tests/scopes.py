"""Scopes by chance: valid ones, with every field that may be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import drawn
from dice import Dice
from mizzen.api import networking as api
from mizzen.api.base import Duration
from mizzen.api.mesh import MeshConfig, TLSConfig
from mizzen.scope import model
from mizzen.scope.model import Protocol

HTTP = [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB]
BYTES = [Protocol.TCP, Protocol.MONGO, Protocol.MYSQL, Protocol.REDIS]


def destination(dice: Dice, clusters: Sequence[model.Subset]) -> model.Destination:
    found = dice.one(clusters)
    return model.Destination(
        cluster=found.cluster,
        host=found.host,
        port=found.port,
        weight=dice.one([0, 1, 10, 90, 2**31 - 1]),
        headers=dice.maybe(lambda: drawn.headers(dice)),
    )


def destinations(dice: Dice, clusters: Sequence[model.Subset]) -> tuple[model.Destination, ...]:
    found = dice.several(lambda: destination(dice, clusters), most=4, least=1)
    some = sum(each.weight for each in found) > 0
    return found if some else found[:1]


def rule(dice: Dice, clusters: Sequence[model.Subset]) -> model.Rule:
    source = model.Source(kind="VirtualService", namespace="default", name="routes", rule=dice.number(0, 9))
    match = dice.maybe(lambda: drawn.http_match(dice), 0.8)
    kind = dice.one(["route", "route", "route", "redirect", "direct", "default"])
    common = {"name": dice.one(["", "main"]), "headers": dice.maybe(lambda: drawn.headers(dice))}
    if kind == "default":
        return model.Rule(destinations=(destination(dice, clusters),), consistent_hash=hashes(dice))
    if kind == "redirect":
        return model.Rule(match=match, http=api.HTTPRoute(redirect=drawn.redirect(dice), **common), source=source)
    if kind == "direct":
        body = dice.one([None, api.HTTPBody(string="no"), api.HTTPBody(bytes="bm8=")])
        answer = api.HTTPDirectResponse(status=dice.one(drawn.STATUS), body=body)
        return model.Rule(match=match, http=api.HTTPRoute(direct_response=answer, **common), source=source)
    http = api.HTTPRoute(
        timeout=dice.maybe(dice.duration),
        retries=dice.maybe(lambda: drawn.retries(dice)),
        rewrite=dice.maybe(lambda: drawn.rewrite(dice)),
        fault=dice.maybe(lambda: drawn.fault(dice)),
        cors_policy=dice.maybe(lambda: drawn.cors(dice)),
        **common,
    )
    mirrors = dice.several(
        lambda: model.Mirror(destination=destination(dice, clusters), percentage=dice.number(0, 100))
    )
    return model.Rule(
        match=match,
        http=http,
        destinations=destinations(dice, clusters),
        mirrors=mirrors,
        source=source,
        consistent_hash=hashes(dice),
    )


def hashes(dice: Dice) -> tuple[api.ConsistentHashLB, ...]:
    return dice.several(lambda: drawn.consistent_hash(dice), most=1)


def table(dice: Dice, name: str, clusters: Sequence[model.Subset], *, sidecar: bool) -> model.RouteTable:
    hosts = tuple(
        model.Host(
            name=f"host-{index}.default.svc.cluster.local:80",
            domains=(f"host-{index}.default.svc.cluster.local", f"host-{index}", f"*.host-{index}.example.com"),
            rules=dice.several(lambda: rule(dice, clusters), most=5, least=1),
            require_tls=dice.number(0, 9) == 0,
        )
        for index in range(dice.number(0, 3))
    )
    return model.RouteTable(name=name, hosts=hosts, fallthrough=dice.one(list(model.Fallthrough)) if sidecar else None)


def subset(dice: Dice, index: int) -> model.Subset:
    host, name = f"host-{index}.default.svc.cluster.local", dice.one(["", "v1"])
    resolution = dice.one([model.Resolution.EDS, *model.Resolution])
    policy = dice.maybe(lambda: drawn.traffic_policy(dice), 0.7)
    dns = resolution in (model.Resolution.STRICT_DNS, model.Resolution.LOGICAL_DNS)
    return model.Subset(
        cluster=f"outbound|80|{name}|{host}",
        host=host,
        port=80,
        protocol=dice.one(list(Protocol)),
        resolution=resolution,
        subset=name,
        policy=policy,
        source=model.Source(kind="DestinationRule", namespace="default", name="rule") if policy else None,
        service=f"host-{index}",
        namespace="default",
        address="localhost" if dns else "",
        mtls=dice.coin(),
        accounts=dice.one([(), ("default",), ("bookinfo-a", "bookinfo-b")]),
    )


def tcp_rule(dice: Dice, clusters: Sequence[model.Subset], *, sni: bool) -> model.TcpRule:
    subnets = dice.one([(), ("10.1.0.0/16",), ("10.2.3.4", "10.3.0.0/24")])
    return model.TcpRule(
        destinations=dice.one([(), destinations(dice, clusters)]),
        match=dice.maybe(
            lambda: api.L4MatchAttributes(destination_subnets=subnets, source_subnet=dice.one(["", "10.0.0.0/8"]))
        ),
        sni_hosts=dice.one([("a.example.com",), ("*.example.com", "b.example.com"), ("*",)]) if sni else (),
        source=dice.one([None, model.Source(kind="VirtualService", namespace="default", name="routes")]),
        policy=dice.maybe(lambda: drawn.traffic_policy(dice)),
        says_bytes=dice.coin(),
    )


def mesh(dice: Dice, **fixed: Any) -> MeshConfig:
    return MeshConfig(
        access_log_file=dice.one(["", "/dev/null"]),
        access_log_encoding=dice.one(["TEXT", "JSON"]),
        access_log_format=dice.one(["", "no json at all %DURATION%", '{"a": "%DURATION%", "b": {"c": "%PROTOCOL%"}}']),
        protocol_detection_timeout=dice.one([Duration(0), Duration(seconds=5)]),
        path_normalization=api_path_normalization(dice),
        h2_upgrade_policy=dice.one(["DO_NOT_UPGRADE", "UPGRADE"]),
        default_http_retry_policy=dice.maybe(lambda: drawn.retries(dice)),
        default_inbound_http_retry_policy=dice.maybe(lambda: drawn.retries(dice)),
        trust_domain_aliases=dice.one([(), ("old.example.com",)]),
        mesh_mtls=dice.one([None, TLSConfig(min_protocol_version="TLSV1_3", ecdh_curves=("P-256",))]),
        **fixed,
    )


def api_path_normalization(dice: Dice) -> Any:
    kinds = ["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
    return type(MeshConfig().path_normalization)(normalization=dice.one(kinds))


def outbound_scope(dice: Dice, config: MeshConfig) -> model.OutboundScope:
    clusters = [subset(dice, index) for index in range(dice.number(1, 4))]
    listeners = [
        model.Outbound(bind="0.0.0.0", port=80, protocol=dice.one(HTTP), route="80"),
        model.Outbound(
            bind="10.96.0.7",
            port=81,
            protocol=Protocol.AUTO,
            route="host-0.default.svc.cluster.local:81",
            tcp=dice.several(lambda: tcp_rule(dice, clusters, sni=False), least=1),
        ),
        model.Outbound(
            bind="10.96.0.8",
            port=82,
            protocol=dice.one(BYTES),
            tcp=dice.several(lambda: tcp_rule(dice, clusters, sni=False)),
        ),
        model.Outbound(
            bind="10.96.0.9",
            port=443,
            protocol=Protocol.HTTPS,
            tcp=dice.several(lambda: tcp_rule(dice, clusters, sni=dice.coin())),
        ),
    ]
    names = [each.route for each in listeners if each.route]
    return model.OutboundScope(
        listeners=tuple(listeners),
        routes=tuple(table(dice, name, clusters, sidecar=True) for name in names),
        subsets=tuple(clusters),
        fallthrough=dice.one(list(model.Fallthrough)),
        mesh=config,
    )


def inbound_scope(dice: Dice, config: MeshConfig) -> model.InboundScope:
    ports = tuple(
        model.Inbound(
            port=8000 + index,
            service_port=80 + index,
            protocol=dice.one(list(Protocol)),
            host="host-0.default.svc.cluster.local",
            policy=dice.maybe(lambda: drawn.traffic_policy(dice)),
            tls=dice.one(list(model.TlsMode)),
        )
        for index in range(dice.number(0, 4))
    )
    others = {port: dice.one(list(model.TlsMode)) for port in range(9000, 9000 + dice.number(0, 2))}
    return model.InboundScope(
        ports=ports, mesh=config, tls=dice.one(list(model.TlsMode)), other_ports=tuple(others.items())
    )


def gateway_scope(dice: Dice, config: MeshConfig, ports: tuple[int, int]) -> model.GatewayScope:
    clusters = [subset(dice, index) for index in range(dice.number(1, 4))]
    http, other = ports
    servers = (
        model.Server(bind="0.0.0.0", port=http, protocol=Protocol.HTTP, route=f"http.{http}"),
        model.Server(
            bind="0.0.0.0",
            port=other,
            protocol=dice.one([Protocol.TCP, Protocol.TLS]),
            tcp=dice.several(lambda: tcp_rule(dice, clusters, sni=dice.coin())),
        ),
    )
    return model.GatewayScope(
        servers=servers,
        routes=(table(dice, f"http.{http}", clusters, sidecar=False),),
        subsets=tuple(clusters),
        mesh=config,
    )


def endpoint(dice: Dice) -> model.Endpoint:
    return model.Endpoint(
        address=f"10.244.0.{dice.number(1, 254)}",
        port=dice.number(1, 65535),
        ready=dice.number(0, 4) > 0,
        weight=dice.number(1, 100),
        region=dice.one(["", "eu"]),
        zone=dice.one(["", "eu-1", "eu-2"]),
        tls_mode=dice.one(["", "istio"]),
        workload=dice.one(["", "reviews-v1;default;reviews;v1;Kubernetes"]),
    )
