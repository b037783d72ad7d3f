"""Outbound clusters: each port of each service, whole and by subset, with the policy in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from mizzen.api.networking import ConsistentHashLB, PortTrafficPolicy, TrafficPolicy
from mizzen.scope.destination_rules import HostRule, Lookup, SubsetRule
from mizzen.scope.memo import Memo
from mizzen.scope.model import Resolution, Source, Subset
from mizzen.scope.mtls import Peers
from mizzen.scope.services import MeshPort, MeshService

UNKNOWN_CLUSTER = "UnknownService"
"""Istio's name for the cluster of a destination that cannot be; Envoy answers 503."""


def cluster_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def policy_in_force(memo: Memo, rule: HostRule, port: int, subset: SubsetRule | None = None) -> TrafficPolicy | None:
    """Subset over top level, block by block; an entry for the port stands in for all blocks of its level."""
    return memo(_merged, rule.policy, subset.spec.traffic_policy if subset else None, port)


def _merged(top: TrafficPolicy | None, subset: TrafficPolicy | None, port: int) -> TrafficPolicy | None:
    original, _ = _at_port(top, port)
    own, replaces = _at_port(subset, port)
    if original is None or own is None:
        return own or original
    if replaces:
        # Istio: even the blocks that the entry leaves empty go back to defaults.
        return replace(
            original,
            load_balancer=own.load_balancer,
            connection_pool=own.connection_pool,
            outlier_detection=own.outlier_detection,
            tls=own.tls,
        )
    return TrafficPolicy(
        load_balancer=own.load_balancer or original.load_balancer,
        connection_pool=own.connection_pool or original.connection_pool,
        outlier_detection=own.outlier_detection or original.outlier_detection,
        tls=own.tls or original.tls,
        tunnel=own.tunnel or original.tunnel,
        proxy_protocol=own.proxy_protocol or original.proxy_protocol,
        retry_budget=own.retry_budget or original.retry_budget,
    )


def _at_port(policy: TrafficPolicy | None, port: int) -> tuple[TrafficPolicy | None, bool]:
    """The policy of one level for a port, and whether a port-level entry gave it."""
    entry = next((entry for entry in policy.port_level_settings if _is_for(entry, port)), None) if policy else None
    if entry is None:
        return policy, False
    return (
        TrafficPolicy(
            load_balancer=entry.load_balancer,
            connection_pool=entry.connection_pool,
            outlier_detection=entry.outlier_detection,
            tls=entry.tls,
        ),
        True,
    )


def _is_for(entry: PortTrafficPolicy, port: int) -> bool:
    return entry.port is not None and entry.port.number == port


def consistent_hash(memo: Memo, rule: HostRule | None, port: int, subset: str = "") -> ConsistentHashLB | None:
    """The hash policy that routes to this cluster must carry."""
    if rule is None:
        return None
    policy = policy_in_force(memo, rule, port, rule.subset(subset))
    return policy.load_balancer.consistent_hash if policy and policy.load_balancer else None


def service_clusters(memo: Memo, service: MeshService, lookup: Lookup, peers: Peers) -> Iterator[Subset]:
    """All clusters of one service, as one client sees them."""
    rule = lookup.rule(service.host)
    accounts = peers.accounts(service.host)
    for port in service.ports:
        host, number = service.host, port.number
        mtls = (peers.allow_mtls(host, number, told_apart=True), peers.allow_mtls(host, number, told_apart=False))
        yield memo(_cluster, memo, service, port, rule, None, accounts, *mtls)
        for subset in rule.subsets if rule else ():
            yield memo(_cluster, memo, service, port, rule, subset, accounts, *mtls)


def _cluster(
    memo: Memo,
    service: MeshService,
    port: MeshPort,
    rule: HostRule | None,
    subset: SubsetRule | None,
    accounts: tuple[str, ...],
    mtls_by_endpoint: bool,
    mtls_to_all: bool,
) -> Subset:
    policy = policy_in_force(memo, rule, port.number, subset) if rule else None
    name = subset.spec.name if subset else ""
    resolution = _resolution(service, policy)
    return Subset(
        cluster=cluster_name(service.host, port.number, name),
        host=service.host,
        port=port.number,
        protocol=port.protocol,
        resolution=resolution,
        subset=name,
        policy=policy,
        source=_source(rule, subset),
        service=service.name,
        namespace=service.namespace,
        labels=subset_labels(subset.spec.labels) if subset else (),
        mtls=mtls_to_all if resolution is Resolution.ORIGINAL_DST else mtls_by_endpoint,
        accounts=accounts,
    )


def subset_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _resolution(service: MeshService, policy: TrafficPolicy | None) -> Resolution:
    passthrough = policy and policy.load_balancer and policy.load_balancer.simple == "PASSTHROUGH"
    return Resolution.ORIGINAL_DST if passthrough else service.resolution


def _source(rule: HostRule | None, subset: SubsetRule | None) -> Source | None:
    if subset is not None:
        return subset.source
    return rule.policy_source if rule is not None else None
