"""AUTO_PASSTHROUGH: mesh TLS that comes in is passed on undecrypted, to the service that its SNI names.

https://istio.io/latest/docs/reference/config/networking/gateway/#ServerTLSSettings-TLSmode
Callers of another cluster name `outbound_.PORT_.SUBSET_.HOST`. Who they are is checked where the TLS ends, by the
sidecar of the server: so only endpoints that take mesh TLS are led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from mizzen.api.networking import TrafficPolicy
from mizzen.scope.hosts import subset_of
from mizzen.scope.memo import Memo
from mizzen.scope.model import Destination, Protocol, Resolution, Subset, TcpRule
from mizzen.scope.opened import Opened


def passed_on(memo: Memo, servers: Iterable[Opened], subsets: tuple[Subset, ...]) -> tuple[Subset, ...]:
    """The clusters behind AUTO_PASSTHROUGH servers: of each service that one of them names, as the gateway sees it."""
    every = [one for one in servers if one.auto_passthrough]
    return tuple(memo(by_server_name, one) for one in subsets if any(_is_for(server, one) for server in every))


def by_server_name(subset: Subset) -> Subset:
    """The same endpoints, for bytes that are encrypted already."""
    name = f"outbound_.{subset.port}_.{subset.subset}_.{subset.host}"
    return replace(
        subset,
        cluster=name,
        protocol=Protocol.TCP,
        resolution=Resolution.EDS,
        policy=_without_tls(subset.policy),
        mtls=False,
        only_mtls=True,
    )


def _without_tls(policy: TrafficPolicy | None) -> TrafficPolicy | None:
    return replace(policy, tls=None) if policy is not None else None


def passing_rules(server: Opened, clusters: Iterable[Subset]) -> Iterator[TcpRule]:
    """One filter chain for each cluster; what names none of them is reset."""
    for one in clusters:
        if _is_for(server, one):
            share = Destination(cluster=one.cluster, host=one.host, port=one.port)
            yield TcpRule(destinations=(share,), sni_hosts=(one.cluster,), policy=one.policy, only_mtls=True)


def _is_for(server: Opened, subset: Subset) -> bool:
    return any(subset_of(subset.host, name) for name in server.hosts_for(subset.namespace))
