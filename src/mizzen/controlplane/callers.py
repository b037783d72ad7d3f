"""Who asks for a certificate: what the API server says of the token, and what runs in the Pod that it is bound to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mizzen.api.core import Pod
from mizzen.api.decode import convert
from mizzen.ca.spiffe import Caller, Workload
from mizzen.ca.tokens import BoundPod, Claim, Unauthenticated, claim_of, identify
from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError, NotFound
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.workloads import canonical_name, canonical_revision, workload_name


class Callers:
    """Asks the API server each time, not our watch: labels count as they are at this moment."""

    def __init__(self, api: Api, snapshot: Callable[[], Snapshot]) -> None:
        self._api, self._snapshot = api, snapshot

    async def identify(self, token: str) -> Caller:
        """By the review alone. The Pod that the token says it is of is read beside it, and nothing of that counts
        unless the review has said the same. Raises Unauthenticated, and ApiError when nobody can be asked."""
        claim = claim_of(token)
        reading = asyncio.ensure_future(self._claimed(claim)) if claim else None
        try:
            identity, bound = await identify(self._review, token, self._snapshot().mesh.trust_domain)
            if bound is None:
                return Caller(identity)
            said_so = claim == Claim(identity.namespace, bound.name)
            claimed = await reading if reading is not None and said_so else None
            return Caller(identity, await self._workload(identity.namespace, bound, claimed), bound.name)
        finally:
            if reading is not None:
                reading.cancel()

    async def _review(self, body: JSON) -> JSON:
        return await self._api.create(WELL_KNOWN.tokenreviews, body)

    async def _claimed(self, claim: Claim) -> JSON | None:
        """None where it cannot be read: if it matters, the Pod is read again, and that says why."""
        try:
            return await self._api.get(WELL_KNOWN.pods, claim.pod, claim.namespace)
        except ApiError:
            return None

    async def _workload(self, namespace: str, bound: BoundPod, claimed: JSON | None) -> Workload:
        if claimed is not None and bound.uid and claimed["metadata"].get("uid") == bound.uid:
            return attested(self._snapshot(), convert(claimed, Pod))
        try:
            pod = convert(await self._api.get(WELL_KNOWN.pods, bound.name, namespace), Pod)
        except NotFound as error:
            raise Unauthenticated(f"the token is of Pod {bound.name}.{namespace}, which is gone") from error
        if bound.uid and pod.metadata.uid != bound.uid:
            raise Unauthenticated(f"the token is of an earlier Pod {bound.name}.{namespace}")
        return attested(self._snapshot(), pod)


def attested(snapshot: Snapshot, pod: Pod) -> Workload:
    """What certificates say beside the identity."""
    name, labels = workload_name(snapshot, pod), pod.metadata.labels
    return Workload(name, pod.metadata.namespace, canonical_name(labels, name), canonical_revision(labels))
