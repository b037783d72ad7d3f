"""Scopes by chance: valid ones, with every field that may be written, drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from mizzen.api import networking as api
from mizzen.api.base import Duration
from mizzen.api.mesh import MeshConfig, TLSConfig
from mizzen.scope import model
from mizzen.scope.model import Protocol

T = TypeVar("T")
HTTP = [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB]
BYTES = [Protocol.TCP, Protocol.MONGO, Protocol.MYSQL, Protocol.REDIS]
STATUS = [200, 301, 404, 418, 503, 599]


class Dice:
    """Draws; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def one(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def maybe(self, draw: Callable[[], T], odds: float = 0.4) -> T | None:
        return draw() if self._random.random() < odds else None

    def several(self, draw: Callable[[], T], most: int = 3, least: int = 0) -> tuple[T, ...]:
        return tuple(draw() for _ in range(self._random.randint(least, most)))

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def coin(self) -> bool:
        return self._random.random() < 0.5

    def duration(self) -> Duration:
        return Duration(milliseconds=self.number(1, 90_000))

    def word(self) -> str:
        return self.one(["alpha", "beta", "gamma", "delta", "x-version", "cookie", "user-agent"])

    def words(self) -> dict[str, str]:
        return {self.word(): self.one(["1", "two", "%REQ(x-a)%", "100%%", ""]) for _ in range(self.number(0, 3))}


def string_match(dice: Dice) -> api.StringMatch:
    kind = dice.one(["exact", "prefix", "regex"])
    return api.StringMatch(**{kind: dice.one(["/a", "/a/b", "v1", "x.y"])})


def header_match(dice: Dice) -> api.StringMatch:
    return dice.one([api.StringMatch(), string_match(dice)])


def http_match(dice: Dice) -> api.HTTPMatchRequest:
    return api.HTTPMatchRequest(
        name=dice.one(["", "canary"]),
        uri=dice.maybe(lambda: string_match(dice)),
        scheme=dice.maybe(lambda: api.StringMatch(exact="https")),
        method=dice.maybe(lambda: api.StringMatch(exact=dice.one(["GET", "POST"]))),
        authority=dice.maybe(lambda: string_match(dice)),
        headers={dice.word(): header_match(dice) for _ in range(dice.number(0, 2))},
        without_headers={dice.word(): header_match(dice) for _ in range(dice.number(0, 2))},
        query_params={dice.word(): header_match(dice) for _ in range(dice.number(0, 2))},
        ignore_uri_case=dice.coin(),
        stat_prefix=dice.one(["", "stats"]),
    )


def headers(dice: Dice) -> api.Headers:
    def operations(**hosts: str) -> api.HeaderOperations:
        return api.HeaderOperations(set={**dice.words(), **hosts}, add=dice.words(), remove=dice.several(dice.word))

    hosts = {"Host": "other.example.com"} if dice.coin() else {}
    return api.Headers(request=dice.maybe(lambda: operations(**hosts)), response=dice.maybe(operations))


def percent(dice: Dice) -> api.Percent:
    return api.Percent(value=dice.one([0.0, 0.0001, 1.5, 33.3, 100.0]))


def retries(dice: Dice) -> api.HTTPRetry:
    if dice.number(0, 4) == 0:
        return api.HTTPRetry(attempts=0)
    return api.HTTPRetry(
        attempts=dice.number(1, 5),
        per_try_timeout=dice.maybe(dice.duration),
        retry_on=dice.one(["", "5xx,reset", "503,504", "gateway-error,connect-failure,refused-stream,429"]),
        retry_remote_localities=dice.maybe(dice.coin),
        retry_ignore_previous_hosts=dice.maybe(dice.coin),
        backoff=dice.maybe(dice.duration),
    )


def fault(dice: Dice) -> api.HTTPFaultInjection:
    aborts = [
        api.FaultAbort(http_status=dice.one(STATUS), percentage=dice.maybe(lambda: percent(dice))),
        api.FaultAbort(grpc_status=dice.one(["UNAVAILABLE", "OK"]), percentage=percent(dice)),
    ]
    delays = [
        api.FaultDelay(fixed_delay=dice.duration(), percentage=dice.maybe(lambda: percent(dice))),
        api.FaultDelay(fixed_delay=dice.duration(), percent=dice.number(0, 100)),
    ]
    delay, abort = dice.one([(True, False), (False, True), (True, True)])
    return api.HTTPFaultInjection(delay=dice.one(delays) if delay else None, abort=dice.one(aborts) if abort else None)


def cors(dice: Dice) -> api.CorsPolicy:
    return api.CorsPolicy(
        allow_origins=dice.several(lambda: string_match(dice)),
        allow_origin=dice.several(lambda: "https://example.com"),
        allow_methods=dice.several(lambda: dice.one(["GET", "PUT", "*"])),
        allow_headers=dice.several(dice.word),
        expose_headers=dice.several(dice.word),
        max_age=dice.maybe(lambda: Duration(seconds=dice.number(0, 600))),
        allow_credentials=dice.maybe(dice.coin),
        unmatched_preflights=dice.one([None, "UNSPECIFIED", "FORWARD", "IGNORE"]),
    )


def redirect(dice: Dice) -> api.HTTPRedirect:
    return api.HTTPRedirect(
        **dice.one([{}, {"uri": "/there"}, {"prefix_rewrite": "/new"}]),
        authority=dice.one(["", "there.example.com"]),
        **dice.one([{}, {"port": 80}, {"port": 8443}, {"derive_port": "FROM_REQUEST_PORT"}]),
        scheme=dice.one(["", "http", "https"]),
        redirect_code=dice.one([0, 301, 302, 303, 304, 307, 308]),
    )


def rewrite(dice: Dice) -> api.HTTPRewrite:
    return dice.one(
        [
            api.HTTPRewrite(uri="/new", authority=dice.one(["", "other"])),
            api.HTTPRewrite(authority="other"),
            api.HTTPRewrite(uri_regex_rewrite=api.RegexRewrite(match="^/a/(.*)$", rewrite=r"/\1")),
        ]
    )


def consistent_hash(dice: Dice) -> api.ConsistentHashLB:
    return api.ConsistentHashLB(
        **dice.one(
            [
                {"http_header_name": "x-user"},
                {"http_cookie": api.HTTPCookie(name="user", path="/", ttl=dice.maybe(dice.duration))},
                {"use_source_ip": True},
                {"http_query_parameter_name": "user"},
            ]
        ),
        **dice.one(
            [
                {},
                {"minimum_ring_size": 64},
                {"ring_hash": api.RingHash(minimum_ring_size=128)},
                {"maglev": api.Maglev(table_size=dice.one([0, 65537]))},
            ]
        ),
    )


def destination(dice: Dice, clusters: Sequence[model.Subset]) -> model.Destination:
    found = dice.one(clusters)
    return model.Destination(
        cluster=found.cluster,
        host=found.host,
        port=found.port,
        weight=dice.one([0, 1, 10, 90, 2**31 - 1]),
        headers=dice.maybe(lambda: headers(dice)),
    )


def destinations(dice: Dice, clusters: Sequence[model.Subset]) -> tuple[model.Destination, ...]:
    found = dice.several(lambda: destination(dice, clusters), most=4, least=1)
    some = sum(each.weight for each in found) > 0
    return found if some else found[:1]


def rule(dice: Dice, clusters: Sequence[model.Subset]) -> model.Rule:
    source = model.Source(kind="VirtualService", namespace="default", name="routes", rule=dice.number(0, 9))
    match = dice.maybe(lambda: http_match(dice), 0.8)
    kind = dice.one(["route", "route", "route", "redirect", "direct", "default"])
    common = {"name": dice.one(["", "main"]), "headers": dice.maybe(lambda: headers(dice))}
    if kind == "default":
        return model.Rule(destinations=(destination(dice, clusters),), consistent_hash=hashes(dice))
    if kind == "redirect":
        return model.Rule(match=match, http=api.HTTPRoute(redirect=redirect(dice), **common), source=source)
    if kind == "direct":
        body = dice.one([None, api.HTTPBody(string="no"), api.HTTPBody(bytes="bm8=")])
        answer = api.HTTPDirectResponse(status=dice.one(STATUS), body=body)
        return model.Rule(match=match, http=api.HTTPRoute(direct_response=answer, **common), source=source)
    http = api.HTTPRoute(
        timeout=dice.maybe(dice.duration),
        retries=dice.maybe(lambda: retries(dice)),
        rewrite=dice.maybe(lambda: rewrite(dice)),
        fault=dice.maybe(lambda: fault(dice)),
        cors_policy=dice.maybe(lambda: cors(dice)),
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
    return dice.several(lambda: consistent_hash(dice), most=1)


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


def traffic_policy(dice: Dice) -> api.TrafficPolicy:
    return api.TrafficPolicy(
        load_balancer=dice.maybe(lambda: load_balancer(dice)),
        connection_pool=dice.maybe(lambda: connection_pool(dice)),
        outlier_detection=dice.maybe(lambda: outlier_detection(dice)),
        tls=dice.maybe(lambda: client_tls(dice)),
        retry_budget=dice.maybe(lambda: api.RetryBudget(percent=dice.one([None, 0.0, 50.0]), min_retry_concurrency=2)),
    )


def client_tls(dice: Dice) -> api.ClientTLSSettings:
    """Without files: what they must hold is not drawn by chance."""
    names = dice.several(lambda: "spiffe://cluster.local/ns/default/sa/a")
    return dice.one(
        [
            api.ClientTLSSettings(mode="DISABLE"),
            api.ClientTLSSettings(mode="ISTIO_MUTUAL", sni=dice.one(["", "a.example.com"]), subject_alt_names=names),
            api.ClientTLSSettings(mode="SIMPLE", sni=dice.one(["", "a.example.com"]), insecure_skip_verify=True),
        ]
    )


def load_balancer(dice: Dice) -> api.LoadBalancerSettings:
    simple = dice.one([None, "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"])
    warmup = api.Warmup(
        duration=dice.duration(), minimum_percent=dice.one([None, 0.0, 50.0]), aggression=dice.one([None, 2.0])
    )
    return dice.one(
        [
            api.LoadBalancerSettings(simple=simple),
            api.LoadBalancerSettings(simple=simple, warmup=warmup),
            api.LoadBalancerSettings(simple=simple, warmup_duration_secs=dice.duration()),
            api.LoadBalancerSettings(consistent_hash=consistent_hash(dice)),
        ]
    )


def connection_pool(dice: Dice) -> api.ConnectionPoolSettings:
    keepalive = api.TcpKeepalive(
        probes=dice.number(0, 3), time=dice.maybe(dice.duration), interval=dice.maybe(dice.duration)
    )
    tcp = api.TCPSettings(
        max_connections=dice.number(0, 100),
        connect_timeout=dice.maybe(dice.duration),
        tcp_keepalive=dice.one([None, keepalive]),
        max_connection_duration=dice.maybe(dice.duration),
        idle_timeout=dice.one([None, Duration(0), dice.duration()]),
    )
    http = api.HTTPSettings(
        http1_max_pending_requests=dice.number(0, 100),
        http2_max_requests=dice.number(0, 100),
        max_requests_per_connection=dice.number(0, 100),
        max_retries=dice.number(0, 5),
        idle_timeout=dice.maybe(dice.duration),
        h2_upgrade_policy=dice.one([None, "DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]),
        use_client_protocol=dice.coin(),
        max_concurrent_streams=dice.number(0, 100),
        http2_keep_alive=dice.maybe(lambda: api.Http2KeepAlive(interval=dice.duration(), timeout=dice.duration())),
    )
    return api.ConnectionPoolSettings(**dice.one([{"tcp": tcp}, {"http": http}, {"tcp": tcp, "http": http}]))


def outlier_detection(dice: Dice) -> api.OutlierDetection:
    return api.OutlierDetection(
        consecutive_5xx_errors=dice.one([None, 0, 7]),
        consecutive_gateway_errors=dice.one([None, 0, 7]),
        consecutive_local_origin_failures=dice.one([None, 0, 7]),
        split_external_local_origin_errors=dice.coin(),
        interval=dice.maybe(dice.duration),
        base_ejection_time=dice.maybe(dice.duration),
        max_ejection_percent=dice.one([0, 50, 100]),
        min_health_percent=dice.one([0, 30, 100]),
        outlier_detection_http_error_codes=dice.one([(), (429,), (500, 503)]),
    )


def subset(dice: Dice, index: int) -> model.Subset:
    host, name = f"host-{index}.default.svc.cluster.local", dice.one(["", "v1"])
    resolution = dice.one([model.Resolution.EDS, *model.Resolution])
    policy = dice.maybe(lambda: traffic_policy(dice), 0.7)
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
        policy=dice.maybe(lambda: traffic_policy(dice)),
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
        default_http_retry_policy=dice.maybe(lambda: retries(dice)),
        default_inbound_http_retry_policy=dice.maybe(lambda: retries(dice)),
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
            policy=dice.maybe(lambda: traffic_policy(dice)),
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
