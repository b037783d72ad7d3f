"""When to push, and what a change can have touched. Pure.

A push goes out at once when nothing happened for a while (the leading edge). Changes that come while one is being
worked out wait for the next, together. After an expensive push the next one waits as long again as that took, so that a
storm of changes costs at most half of the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mizzen.api.apps import ReplicaSet
from mizzen.api.core import Node, Pod, Secret, Service
from mizzen.api.discovery import EndpointSlice
from mizzen.api.networking import DestinationRule, Gateway
from mizzen.scope.credentials import CA_SUFFIX, bare, wanted_secrets
from mizzen.scope.destination_rules import credential_names
from mizzen.scope.endpoints import behind, slice_owner
from mizzen.scope.hosts import service_host
from mizzen.scope.inbound import selecting
from mizzen.scope.ingresses import translated
from mizzen.scope.mtls import peer_policies
from mizzen.scope.services import catalog
from mizzen.scope.snapshot import Change, Snapshot

LONGEST_PAUSE = 0.1
_FREE = 0.005
"""Pushes that took less than this, in seconds, do not delay the next one."""


@dataclass(slots=True)
class Pace:
    """Times are monotonic seconds."""

    last_end: float = 0.0
    last_cost: float = 0.0

    def pause(self, now: float) -> float:
        """Seconds to wait before the next push may begin."""
        if self.last_cost < _FREE:
            return 0.0
        return max(0.0, self.last_end + min(self.last_cost, LONGEST_PAUSE) - now)

    def pushed(self, start: float, end: float) -> None:
        self.last_end, self.last_cost = end, end - start


@dataclass(slots=True)
class Touched:
    """What has to be looked at again."""

    scopes: bool = False
    """Views must be resolved anew. What did not change in them is remembered, and costs little."""
    hosts: set[str] = field(default_factory=set)
    """Services whose endpoints may have changed."""
    all_endpoints: bool = False
    pods: set[tuple[str, str]] = field(default_factory=set)
    """Pods whose proxies may belong to another view now."""


def touched(before: Snapshot, after: Snapshot, changes: Iterable[Change]) -> Touched:
    """Endpoints, Pods and Nodes come and go often and touch little; anything else may touch everything."""
    found = Touched()
    for change in changes:
        if change.kind is EndpointSlice:
            _slice_touched(before, after, change, found)
        elif change.kind is Pod:
            _pod_touched(before, after, change, found)
        elif change.kind is ReplicaSet:
            new = before.get(ReplicaSet, change.namespace, change.name) is None
            services = catalog(after).by_namespace.get(change.namespace, ()) if new else ()
            found.hosts.update(service.host for service in services)
        elif change.kind is Node:
            found.all_endpoints = True
        elif change.kind is Secret:
            found.scopes |= _is_wanted(after, change.name)
        else:
            found.scopes = True
            if change.kind is Service:  # its ports and selector say what its endpoints are
                found.hosts.add(service_host(change.name, change.namespace))
    found.scopes |= any(_meets_others(before, after, host) for host in found.hosts) if not found.scopes else False
    # An endpoint says whether it takes mesh TLS: else callers would go on to encrypt for who has been told DISABLE.
    found.all_endpoints |= peer_policies(before) is not peer_policies(after)
    return found


def _is_wanted(snapshot: Snapshot, secret: str) -> bool:
    """Whether some Gateway, Ingress or DestinationRule asks for a Secret of that name."""
    rules = (name for rule in snapshot.table(DestinationRule) for name in credential_names(rule))
    if any(secret in (bare(name), bare(name) + CA_SUFFIX) for name in rules):
        return True
    gateways = (*snapshot.table(Gateway), *translated(snapshot).gateways)
    servers = (server for one in gateways for server in one.spec.servers)
    return any(secret in wanted_secrets(server.tls) for server in servers if server.tls is not None)


def _meets_others(before: Snapshot, after: Snapshot, host: str) -> bool:
    """Whether callers of a host must expect other identities there, or another way of speaking to all of it."""
    service = catalog(after).by_host.get(host)
    return service is not None and behind(before, service) != behind(after, service)


def _slice_touched(before: Snapshot, after: Snapshot, change: Change, found: Touched) -> None:
    for snapshot in (before, after):
        one = snapshot.get(EndpointSlice, change.namespace, change.name)
        for namespace, name in slice_owner(one) if one else ():
            host = service_host(name, namespace)
            found.hosts.add(host)
            service = catalog(after).by_host.get(host)
            found.scopes |= service is not None and service.headless


def _pod_touched(before: Snapshot, after: Snapshot, change: Change, found: Touched) -> None:
    """Subsets select by a Pod's labels, and its proxy serves what its labels say."""
    found.pods.add((change.namespace, change.name))
    services = catalog(after).by_namespace.get(change.namespace, ())
    for snapshot in (before, after):
        pod = snapshot.get(Pod, change.namespace, change.name)
        found.hosts.update(service.host for service in selecting(services, pod.metadata.labels if pod else {}))
