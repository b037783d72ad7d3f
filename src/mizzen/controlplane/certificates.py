"""Certificates for workloads: what is signed and remembered, and when an authority may follow another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import grpc

from mizzen.api.core import Pod
from mizzen.ca.authority import WORKLOAD_VALIDITY
from mizzen.ca.service import Issued, certificate_service
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane.authority import Authority, RootSettings
from mizzen.controlplane.callers import Callers
from mizzen.controlplane.ledger import Ledger, PodKey, standing
from mizzen.kube.api import Api
from mizzen.scope.snapshot import Snapshot

PROXY = "istio-proxy"
_SAME_LIFE = timedelta(minutes=5)
"""Certificates are asked for with the usual life, give or take."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What certificates depend on: the mesh as it is, and whether all copies of the roots are in place."""

    snapshot: Callable[[], Snapshot]
    published: Callable[[], bool]


class Certificates:
    """The authority and the ledger of one istiod."""

    def __init__(self, api: Api, namespace: str, around: Surroundings, root: RootSettings) -> None:
        self._around = around
        self._callers = Callers(api, around.snapshot)
        self.ledger = Ledger(api, namespace, self._exists)
        self.authority = Authority(api, namespace, lambda: self._snapshot.mesh.trust_domain, self._judge, root)

    @property
    def _snapshot(self) -> Snapshot:
        return self._around.snapshot()

    def service(self) -> grpc.GenericRpcHandler:
        """`CreateCertificate`."""
        return certificate_service(lambda: self.authority.current, self._callers.identify, self._note)

    # What is remembered

    async def _note(self, issued: Issued) -> None:
        caller = issued.caller
        if not caller.pod or issued.lives > WORKLOAD_VALIDITY + _SAME_LIFE:
            await self.authority.outlasting(issued.not_after)
        if caller.pod:
            self.ledger.record((caller.identity.namespace, caller.pod), issued)

    def proxies(self) -> list[PodKey]:
        """The Pods that have a proxy, and so a certificate."""
        return [(pod.metadata.namespace, pod.metadata.name) for pod in self._snapshot.table(Pod) if has_proxy(pod)]

    def _exists(self, pod: PodKey) -> bool:
        return self._snapshot.get(Pod, *pod) is not None

    def _judge(self, succession: Succession) -> Standing:
        if not self._around.published():
            return Standing()
        return standing(self.ledger.holdings, self.proxies(), succession, time.time())


def has_proxy(pod: Pod) -> bool:
    return any(one.name == PROXY for one in (*pod.spec.containers, *pod.spec.init_containers))
