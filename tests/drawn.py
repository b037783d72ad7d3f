"""What users may write in VirtualServices and DestinationRules, by chance: valid, with every field."""

from __future__ import annotations

from dice import Dice
from mizzen.api import networking as api
from mizzen.api.base import Duration

STATUS = [200, 301, 404, 418, 503, 599]


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
