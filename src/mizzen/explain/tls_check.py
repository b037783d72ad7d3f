"""Who talks to whom, in mutual TLS or in plain text: observed, by policy, and what another mode would break."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from mizzen.api.base import Metadata, Model
from mizzen.api.core import Pod
from mizzen.api.peer_authentication import MutualTLS, PeerAuthentication, PeerAuthenticationSpec
from mizzen.explain.encryption import MTLS, PLAINTEXT, TLS, Reading
from mizzen.scope.endpoints import TLS_MODE, endpoints, takes_mtls
from mizzen.scope.hosts import DOMAIN
from mizzen.scope.inbound import container_port, selecting
from mizzen.scope.model import Endpoint, Resolution, Subset
from mizzen.scope.mtls import workload_modes
from mizzen.scope.resolve import outbound
from mizzen.scope.services import catalog
from mizzen.scope.snapshot import Snapshot, absent, present
from mizzen.scope.view import Proxy, container_ports, outbound_view
from mizzen.scope.workloads import workload_name
from mizzen.xds import unencrypted

PROXY = "istio-proxy"
NO_SIDECAR, MIXED = "no sidecar", "MIXED"
REFUSED, WOULD_BREAK = "refused", "would break"
Mode = Literal["STRICT", "PERMISSIVE", "DISABLE"]


class Counts(Model):
    """Requests, or connections where bytes are passed on."""

    mtls: int = 0
    tls: int = 0
    """TLS that is not the mesh's: begun for an outside host, or spoken by the application itself."""
    plaintext: int = 0
    refused: int = 0

    @property
    def text(self) -> str:
        words = {MTLS: self.mtls, TLS: self.tls, PLAINTEXT: self.plaintext, REFUSED: self.refused}
        return ", ".join(f"{count} {word}" for word, count in words.items() if count)


class TlsRow(Model):
    """One caller and one port that it calls."""

    client: str
    """`WORKLOAD.NAMESPACE`, or the address of what is no Pod."""
    server: str
    """`SERVICE.NAMESPACE:PORT`; of a Pod that no Service leads to `WORKLOAD.NAMESPACE:PORT`; or an address."""
    observed: Counts
    speaks: str
    """What policies make the caller speak: mTLS, TLS or plaintext."""
    takes: str
    """The server's mode: STRICT, PERMISSIVE, DISABLE; MIXED where its Pods differ; or `no sidecar`."""
    verdict: str
    """mTLS, TLS, plaintext, refused; or, asked about another mode, `would break`."""
    reason: str = ""


class _Traffic:
    """What is known of one pair."""

    def __init__(self, client: Pod | None, host: str, port: int, pods: tuple[tuple[Pod, int], ...]) -> None:
        self.client = client
        self.host = host
        self.port = port
        self.pods = pods
        """The Pods that are called, with their container's port."""
        self.sent: dict[str, int] = {MTLS: 0, TLS: 0, PLAINTEXT: 0}
        self.arrived: dict[str, int] = {unencrypted.PLAIN: 0, unencrypted.OWN_TLS: 0, unencrypted.REFUSED: 0}

    @property
    def past_its_proxy(self) -> bool:
        """The server sees plain text that the caller's proxy does not know to send there."""
        came = self.arrived[unencrypted.PLAIN] + self.arrived[unencrypted.OWN_TLS] + self.arrived[unencrypted.REFUSED]
        return came > 0 and not self.sent[PLAINTEXT] and not self.sent[TLS]

    def counts(self) -> Counts:
        came = self.arrived
        return Counts(
            mtls=self.sent[MTLS],
            tls=max(self.sent[TLS], came[unencrypted.OWN_TLS]),
            plaintext=max(self.sent[PLAINTEXT] - came[unencrypted.REFUSED], came[unencrypted.PLAIN], 0),
            refused=came[unencrypted.REFUSED],
        )


def tls_check(
    snapshot: Snapshot, now: Iterable[Reading], before: Iterable[Reading] = (), what_if: Mode | None = None
) -> list[TlsRow]:
    """Sorted by server and caller. `before`: an earlier reading; only what came since then counts."""
    earlier = {pair: traffic.counts() for pair, traffic in _pairs(snapshot, before).items()}
    then = supposing(snapshot, what_if) if what_if else snapshot
    rows = []
    for (client, server), traffic in _pairs(snapshot, now).items():
        observed = _since(traffic.counts(), earlier.get((client, server), Counts()))
        if observed == Counts():
            continue
        speaks, takes = _speaks(snapshot, traffic), _takes(snapshot, traffic.pods)
        rows.append(
            TlsRow(
                client=client,
                server=server,
                observed=observed,
                speaks=speaks,
                takes=takes,
                verdict=_verdict(traffic, speaks, takes, then, what_if),
                reason=_reason(then, traffic),
            )
        )
    return sorted(rows, key=lambda row: (row.server, row.client))


def proxied(snapshot: Snapshot) -> list[Pod]:
    """Pods with a proxy that runs, sorted."""
    pods = (pod for pod in snapshot.table(Pod) if has_proxy(pod) and pod.status.phase == "Running")
    return sorted(pods, key=lambda pod: (pod.namespace, pod.name))


def has_proxy(pod: Pod) -> bool:
    return any(one.name == PROXY for one in (*pod.spec.containers, *pod.spec.init_containers))


def supposing(snapshot: Snapshot, mode: Mode) -> Snapshot:
    """The same mesh, if one PeerAuthentication with this mode were the only one."""
    root = snapshot.mesh.root_namespace
    only = PeerAuthentication(
        metadata=Metadata(name="default", namespace=root), spec=PeerAuthenticationSpec(mtls=MutualTLS(mode=mode))
    )
    return snapshot.apply(*map(absent, snapshot.table(PeerAuthentication)), present(only))


def _since(now: Counts, before: Counts) -> Counts:
    return Counts(
        mtls=max(0, now.mtls - before.mtls),
        tls=max(0, now.tls - before.tls),
        plaintext=max(0, now.plaintext - before.plaintext),
        refused=max(0, now.refused - before.refused),
    )


# Who it is


class _Called(NamedTuple):
    name: str
    host: str = ""
    port: int = 0
    pods: tuple[tuple[Pod, int], ...] = ()


def _pairs(snapshot: Snapshot, found: Iterable[Reading]) -> dict[tuple[str, str], _Traffic]:
    pods = {
        address: pod for pod in snapshot.table(Pod) for address in pod.status.addresses if not pod.spec.host_network
    }
    pairs: dict[tuple[str, str], _Traffic] = {}

    def traffic(client: Pod | None, name: str, called: _Called) -> _Traffic:
        fresh = _Traffic(client, called.host, called.port, called.pods)
        return pairs.setdefault((name, called.name), fresh)

    for reading in found:
        own = _workload(snapshot, reading.pod)
        for one in reading.sent:
            target = pods.get(one.address)
            called = _by_cluster(snapshot, one.cluster) or _by_address(snapshot, target, one.address, one.port)
            traffic(reading.pod, own, called).sent[one.how] += one.calls
        for came in reading.arrived:
            source = pods.get(came.source)
            name = _workload(snapshot, source) if source else came.source
            called = _by_address(snapshot, reading.pod, "", came.port)
            traffic(source, name, called).arrived[came.seen] += came.calls
    return pairs


def _workload(snapshot: Snapshot, pod: Pod) -> str:
    return f"{workload_name(snapshot, pod)}.{pod.namespace}"


def _by_cluster(snapshot: Snapshot, cluster: str) -> _Called | None:
    """`outbound|9080|v1|reviews.default.svc.cluster.local`: the subset is one way to the same server."""
    if "|" not in cluster:
        return None
    _, port, _, host = cluster.split("|")
    return _service(snapshot, host, int(port))


def _service(snapshot: Snapshot, host: str, port: int) -> _Called:
    found = ((_pod_of(snapshot, host, one), one.port) for one in endpoints(snapshot, host, port))
    behind = tuple((pod, number) for pod, number in found if pod is not None)
    return _Called(f"{host.removesuffix(f'.svc.{DOMAIN}')}:{port}", host, port, behind)


def _pod_of(snapshot: Snapshot, host: str, endpoint: Endpoint) -> Pod | None:
    service = catalog(snapshot).by_host.get(host)
    own = (pod for pod in snapshot.table(Pod) if endpoint.address in pod.status.addresses)
    return next((pod for pod in own if service is None or pod.namespace == service.namespace), None)


def _by_address(snapshot: Snapshot, pod: Pod | None, address: str, port: int) -> _Called:
    """The Service that leads to a port of a Pod, else the Pod's workload, else just the address."""
    if pod is None:
        return _Called(f"{address}:{port}")
    named = dict(container_ports(pod))
    for service in selecting(catalog(snapshot).by_namespace.get(pod.namespace, ()), pod.metadata.labels):
        for one in service.ports:
            if container_port(one, named) == port:
                return _service(snapshot, service.host, one.number)
    return _Called(f"{_workload(snapshot, pod)}:{port}", pods=((pod, port),))


# What policies say


def _takes(snapshot: Snapshot, pods: Iterable[tuple[Pod, int]]) -> str:
    modes = {_mode(snapshot, pod, port) for pod, port in pods}
    return modes.pop() if len(modes) == 1 else MIXED if modes else NO_SIDECAR


def _mode(snapshot: Snapshot, pod: Pod, port: int) -> str:
    if pod.metadata.labels.get(TLS_MODE) != "istio":
        return NO_SIDECAR
    return workload_modes(snapshot, pod.namespace, frozenset(pod.metadata.labels.items())).at(port).value


def _speaks(snapshot: Snapshot, traffic: _Traffic) -> str:
    subset = _subset(snapshot, traffic)
    if subset is None:
        return PLAINTEXT
    asked = subset.policy.tls if subset.policy else None
    if asked is not None and asked.mode is not None:
        return {"ISTIO_MUTUAL": MTLS, "SIMPLE": TLS, "MUTUAL": TLS}.get(asked.mode, PLAINTEXT)
    told_apart = subset.resolution is not Resolution.ORIGINAL_DST
    takes = not told_apart or any(takes_mtls(snapshot, pod, port) for pod, port in traffic.pods)
    return MTLS if subset.mtls and takes else PLAINTEXT


def _subset(snapshot: Snapshot, traffic: _Traffic) -> Subset | None:
    """None for a caller without a proxy, or one that does not ask its proxy for the service."""
    pod = traffic.client
    if pod is None or not has_proxy(pod) or not traffic.host or traffic.past_its_proxy:
        return None
    proxy = Proxy(namespace=pod.namespace, name=pod.name, labels=pod.metadata.labels)
    scope = outbound(snapshot, outbound_view(snapshot, proxy))
    wanted = (traffic.host, traffic.port, "")
    return next((one for one in scope.subsets if (one.host, one.port, one.subset) == wanted), None)


def _verdict(traffic: _Traffic, speaks: str, takes: str, then: Snapshot, what_if: Mode | None) -> str:
    if what_if is not None:
        speaks, takes = _speaks(then, traffic), _takes(then, traffic.pods)
    if _fits(speaks, takes):
        return speaks
    return WOULD_BREAK if what_if is not None else REFUSED


def _fits(speaks: str, takes: str) -> bool:
    if takes in ("STRICT", MIXED):
        return speaks == MTLS or takes == MIXED
    return speaks != MTLS or takes == "PERMISSIVE"


def _reason(snapshot: Snapshot, traffic: _Traffic) -> str:
    """Why a caller does not speak mutual TLS; "" when it does."""
    if traffic.client is None:
        return "the caller is no Pod of the mesh"
    if not has_proxy(traffic.client):
        return "the caller has no sidecar"
    if not traffic.host or traffic.past_its_proxy:
        return "the caller dials an address, or goes past its sidecar"
    subset = _subset(snapshot, traffic)
    if subset is None or _speaks(snapshot, traffic) == MTLS:
        return ""
    asked = subset.policy.tls if subset.policy else None
    if asked is not None and asked.mode is not None and subset.source is not None:
        return f"DestinationRule {subset.source.name}.{subset.source.namespace} says {asked.mode}"
    return "the server does not take it" if _takes(snapshot, traffic.pods) in (NO_SIDECAR, "DISABLE") else ""


def missing_sidecars(snapshot: Snapshot) -> Iterator[str]:
    """Workloads whose calls nothing encrypts, each once."""
    pods = (pod for pod in snapshot.table(Pod) if not has_proxy(pod) and pod.status.phase == "Running")
    yield from sorted({_workload(snapshot, pod) for pod in pods if not _of_the_mesh_itself(pod)})


def _of_the_mesh_itself(pod: Pod) -> bool:
    return pod.metadata.labels.get("app") == "istiod" or pod.namespace.startswith("kube-")


def breaking(rows: Iterable[TlsRow]) -> list[TlsRow]:
    return [row for row in rows if row.verdict == WOULD_BREAK]
