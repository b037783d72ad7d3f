"""Traffic policies of a DestinationRule, at every level."""

from __future__ import annotations

import re
from typing import TypeAlias

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.localities import locality_setting, zone_aware_setting
from mizzen.api.legality.names import is_address, name_problem, port
from mizzen.api.networking import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    HTTPCookie,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)

_LARGEST_MAGLEV = 5_000_011
Blocks: TypeAlias = TrafficPolicy | PortTrafficPolicy


def traffic_policy(path: str, policy: TrafficPolicy | None) -> Findings:
    if policy is None:
        return
    others = (policy.port_level_settings, policy.tunnel, policy.proxy_protocol, policy.retry_budget)
    if not any(others) and _is_empty(policy) and policy.retry_budget is None and policy.proxy_protocol is None:
        yield Finding(path, "a traffic policy needs at least one setting")
        return
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        yield Finding(path, "tunnel and proxyProtocol exclude each other")
        return
    yield from _blocks(path, policy)
    for index, entry in enumerate(policy.port_level_settings):
        yield from _port_level(f"{path}.portLevelSettings[{index}]", entry)
    if policy.tunnel is not None:
        yield from _tunnel(f"{path}.tunnel", policy.tunnel)


def _is_empty(policy: Blocks) -> bool:
    blocks = (policy.load_balancer, policy.connection_pool, policy.outlier_detection, policy.tls)
    return all(block is None for block in blocks)


def _port_level(path: str, entry: PortTrafficPolicy) -> Findings:
    if entry.port is None:
        yield Finding(f"{path}.port", "an entry of portLevelSettings must name its port")
    if _is_empty(entry):
        yield Finding(path, "an entry of portLevelSettings needs at least one setting besides its port")
    yield from _blocks(path, entry)


def _blocks(path: str, policy: Blocks) -> Findings:
    yield from _outlier_detection(f"{path}.outlierDetection", policy.outlier_detection)
    yield from _connection_pool(f"{path}.connectionPool", policy.connection_pool)
    yield from _load_balancer(f"{path}.loadBalancer", policy.load_balancer, policy.outlier_detection)
    yield from _client_tls(f"{path}.tls", policy.tls)


def _tunnel(path: str, tunnel: TunnelSettings) -> Findings:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield Finding(f"{path}.protocol", f"{tunnel.protocol!r} is not a tunnel; write CONNECT or POST")
    if not is_address(tunnel.target_host) and (problem := name_problem(tunnel.target_host)):
        yield Finding(f"{path}.targetHost", problem)
    yield from port(f"{path}.targetPort", tunnel.target_port)


def _outlier_detection(path: str, outlier: OutlierDetection | None) -> Findings:
    if outlier is None:
        return
    if outlier.consecutive_errors:
        yield warning(
            f"{path}.consecutiveErrors",
            "consecutiveErrors is the old form; write consecutive5xxErrors or consecutiveGatewayErrors",
        )
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        yield Finding(
            f"{path}.consecutiveLocalOriginFailures", "this needs splitExternalLocalOriginErrors: true beside it"
        )
    percents = {"maxEjectionPercent": outlier.max_ejection_percent, "minHealthPercent": outlier.min_health_percent}
    for name, value in percents.items():
        if not 0 <= value <= 100:
            yield Finding(f"{path}.{name}", f"{value} is not a percentage from 0 to 100")


def _connection_pool(path: str, pool: ConnectionPoolSettings | None) -> Findings:
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        yield Finding(path, "a connection pool needs tcp, http or both")
    if pool.tcp is not None and pool.tcp.max_connections < 0:
        yield Finding(f"{path}.tcp.maxConnections", "this cannot be below 0")
    if pool.http is not None:
        yield from _http_settings(f"{path}.http", pool.http)


def _http_settings(path: str, http: HTTPSettings) -> Findings:
    limits = {
        "http1MaxPendingRequests": http.http1_max_pending_requests,
        "http2MaxRequests": http.http2_max_requests,
        "maxRequestsPerConnection": http.max_requests_per_connection,
        "maxRetries": http.max_retries,
        "maxConcurrentStreams": http.max_concurrent_streams,
    }
    for name, value in limits.items():
        if value < 0:
            yield Finding(f"{path}.{name}", "this cannot be below 0")
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        yield Finding(path, "useClientProtocol: true and h2UpgradePolicy: UPGRADE exclude each other")
    keepalive = http.http2_keep_alive
    if keepalive is not None and keepalive.interval is None:
        yield Finding(f"{path}.http2KeepAlive", "http2KeepAlive needs an interval")
    if keepalive is not None and keepalive.timeout is None:
        yield Finding(f"{path}.http2KeepAlive", "http2KeepAlive needs a timeout")


def _load_balancer(path: str, balancer: LoadBalancerSettings | None, outlier: OutlierDetection | None) -> Findings:
    if balancer is None:
        return
    if balancer.consistent_hash is not None:
        yield from _consistent_hash(f"{path}.consistentHash", balancer.consistent_hash)
    if balancer.locality_lb_setting is not None and balancer.zone_aware_lb_setting is not None:
        yield Finding(path, "only one of localityLbSetting and zoneAwareLbSetting can be set")
    yield from locality_setting(f"{path}.localityLbSetting", balancer.locality_lb_setting, outlier)
    yield from zone_aware_setting(f"{path}.zoneAwareLbSetting", balancer.zone_aware_lb_setting, outlier)
    warmup = balancer.warmup
    if warmup is not None and warmup.aggression is not None and warmup.aggression <= 0:
        yield Finding(f"{path}.warmup.aggression", "aggression must be above 0")


def _consistent_hash(path: str, hashing: ConsistentHashLB) -> Findings:
    if hashing.http_cookie is not None:
        yield from _cookie(f"{path}.httpCookie", hashing.http_cookie)
    if hashing.minimum_ring_size:
        yield warning(
            f"{path}.minimumRingSize", "minimumRingSize is the old form; write ringHash: {minimumRingSize: …}"
        )
        if hashing.ring_hash is not None or hashing.maglev is not None:
            yield Finding(path, "write either minimumRingSize, or ringHash or maglev")
    if hashing.maglev is not None:
        yield from _table_size(f"{path}.maglev.tableSize", hashing.maglev.table_size)


def _cookie(path: str, cookie: HTTPCookie) -> Findings:
    if not cookie.name:
        yield Finding(f"{path}.name", "a cookie must have a name")
    names = [attribute.name for attribute in cookie.attributes]
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            yield Finding(f"{path}.attributes[{index}].name", f"{name!r} is empty or stands twice")


def _table_size(path: str, size: int) -> Findings:
    if not size:
        yield Finding(path, "maglev needs a tableSize, for example 65537")
    elif size >= _LARGEST_MAGLEV:
        yield Finding(path, f"tableSize must be below {_LARGEST_MAGLEV}")
    elif not _is_prime(size):
        yield Finding(path, f"tableSize must be a prime number, which {size} is not; write for example 65537")


def _is_prime(number: int) -> bool:
    """1 counts, as it does for Envoy."""
    if number < 4:
        return number > 0
    return number % 2 == 1 and all(number % factor for factor in range(3, int(number**0.5) + 1, 2))


def _client_tls(path: str, tls: ClientTLSSettings | None) -> Findings:
    if tls is None:
        return
    if tls.credential_name.startswith("configmap://"):
        yield from _authorities_in_a_config_map(f"{path}.credentialName", tls)
    if tls.insecure_skip_verify:
        yield from _unverified(path, tls)
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        if tls.client_certificate or tls.ca_certificates or tls.private_key or tls.ca_crl:
            yield Finding(path, "credentialName already gives the certificates; remove the file names beside it")
    elif tls.mode == "MUTUAL":
        for name, value in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not value:
                yield Finding(f"{path}.{name}", f"MUTUAL needs credentialName, or {name}")


def _authorities_in_a_config_map(path: str, tls: ClientTLSSettings) -> Findings:
    if not re.fullmatch(r"configmap://[^/]+/[^/]+", tls.credential_name):
        yield Finding(path, "write configmap://NAMESPACE/NAME, with the namespace of this object")
    if tls.mode == "MUTUAL":
        yield Finding(path, "a ConfigMap gives authorities alone, and MUTUAL needs a certificate: name a Secret")


def _unverified(path: str, tls: ClientTLSSettings) -> Findings:
    given = bool(tls.ca_certificates or tls.subject_alt_names)
    if (tls.mode == "SIMPLE" and (given or tls.credential_name)) or (tls.mode == "MUTUAL" and given):
        yield Finding(
            f"{path}.insecureSkipVerify",
            "with insecureSkipVerify: true nothing is checked, so caCertificates, credentialName and subjectAltNames "
            "make no sense beside it",
        )
