"""Mutual TLS: which mode holds for a port of a workload, and whom callers must find behind a service.

https://istio.io/latest/docs/concepts/security/#peer-authentication
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain

from mizzen.api.base import Model, Problem
from mizzen.api.peer_authentication import MutualTLS, PeerAuthentication
from mizzen.scope.model import TlsMode
from mizzen.scope.problems import problem
from mizzen.scope.snapshot import Snapshot, by_namespace

SHADOWED, IGNORED_SELECTOR = "MZ0004", "MZ0005"


class WorkloadModes(Model):
    """What the PeerAuthentications say about one workload."""

    mode: TlsMode
    by_port: tuple[tuple[int, TlsMode], ...] = ()
    """Container ports with a mode of their own, sorted."""

    def at(self, port: int) -> TlsMode:
        return dict(self.by_port).get(port, self.mode)


class PeerPolicies:
    """All PeerAuthentications of a mesh. Of several that are equally wide the oldest holds."""

    def __init__(self, groups: Mapping[Hashable, tuple[PeerAuthentication, ...]], root: str) -> None:
        self._root = root
        self._wide = {str(name): found for name, group in groups.items() if (found := _widest(group)) is not None}
        self._narrow = {
            str(name): tuple(one for one in group if _selector(one)) for name, group in groups.items() if name != root
        }
        self._everything = tuple(chain.from_iterable(groups.values()))

    def workload(self, namespace: str, labels: Mapping[str, str]) -> WorkloadModes:
        """Mesh, then namespace, then workload; each says something or leaves it to the one before."""
        narrow = self._selecting(namespace, labels)
        mode = TlsMode.PERMISSIVE
        for policy in (self._wide.get(self._root), self._wide.get(namespace), narrow):
            mode = _mode(policy.spec.mtls, mode) if policy else mode
        ports = narrow.spec.port_level_mtls.items() if narrow else ()
        by_port = {int(port): _mode(asked, mode) for port, asked in ports if port.isdigit()}
        return WorkloadModes(mode=mode, by_port=tuple(sorted(by_port.items())))

    def _selecting(self, namespace: str, labels: Mapping[str, str]) -> PeerAuthentication | None:
        found = (one for one in self._narrow.get(namespace, ()) if _selector(one).items() <= labels.items())
        return next(found, None)

    def problems(self) -> Iterator[Problem]:
        for one in self._everything:
            holder = self._wide.get(one.namespace)
            if not _selector(one) and holder is not one and holder is not None:
                yield problem(
                    one,
                    SHADOWED,
                    "spec",
                    f"This policy is not in force: PeerAuthentication {holder.name} is older and speaks for the same "
                    f"workloads of namespace {one.namespace}. Keep one of them.",
                )
            elif _selector(one) and one.namespace == self._root:
                yield problem(
                    one,
                    IGNORED_SELECTOR,
                    "spec.selector",
                    f"A PeerAuthentication with a selector has no effect in the root namespace {self._root}, as in "
                    "Istio. Put it into the namespace of the workload, or drop the selector to speak for the mesh.",
                )


def _selector(policy: PeerAuthentication) -> Mapping[str, str]:
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _widest(group: Iterable[PeerAuthentication]) -> PeerAuthentication | None:
    return next((one for one in group if not _selector(one)), None)


def _mode(asked: MutualTLS | None, otherwise: TlsMode) -> TlsMode:
    mode = asked.mode if asked else None
    return otherwise if mode in (None, "UNSET") else TlsMode(mode)


def peer_policies(snapshot: Snapshot) -> PeerPolicies:
    groups = snapshot.table(PeerAuthentication).grouped(by_namespace)
    return snapshot.memo(PeerPolicies, groups, snapshot.mesh.root_namespace)


def workload_modes(snapshot: Snapshot, namespace: str, labels: frozenset[tuple[str, str]]) -> WorkloadModes:
    """One object for all workloads that get the same answer, as long as they do."""
    memo = snapshot.memo
    found = memo(_of_workload, peer_policies(snapshot), namespace, labels)
    return memo(_shared, found.mode, frozenset(found.by_port))


def _of_workload(policies: PeerPolicies, namespace: str, labels: frozenset[tuple[str, str]]) -> WorkloadModes:
    return policies.workload(namespace, dict(labels))


def _shared(mode: TlsMode, by_port: frozenset[tuple[int, TlsMode]]) -> WorkloadModes:
    return WorkloadModes(mode=mode, by_port=tuple(sorted(by_port)))


class Peers:
    """Whom callers find behind the services of one namespace. Compared by value through `Memo`."""

    def __init__(self, accounts: frozenset[tuple[str, str]], plain: frozenset[tuple[str, int]], auto: bool) -> None:
        """`accounts`: pairs of a host and a service account; `plain`: ports behind which some endpoint takes no
        mesh TLS; `auto`: the mesh's `enableAutoMtls`."""
        found: dict[str, tuple[str, ...]] = {}
        for host, account in sorted(accounts):
            found[host] = (*found.get(host, ()), account)
        self._accounts = found
        self._plain = plain
        self._auto = auto

    def accounts(self, host: str) -> tuple[str, ...]:
        """The service accounts of all Pods behind a host, sorted; () when there is none."""
        return self._accounts.get(host, ())

    def allow_mtls(self, host: str, port: int, *, told_apart: bool) -> bool:
        """Endpoints that are told apart are decided one by one; where they are not, all of them must take it."""
        return self._auto and (told_apart or (host, port) not in self._plain)
