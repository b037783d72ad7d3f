"""PodDisruptionBudget: how many of its Pods may be evicted now. The API server's eviction asks the status.

https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import controller_of, is_deleting, labels_of, percentage_of, replicas
from mizzen.embedded.controllers.pods import is_active, is_ready
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, Resource
from mizzen.kube.reflector import Change, Key
from mizzen.kube.selectors import select_labels

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
PODS = WELL_KNOWN.pods
_OWNERS = {"ReplicaSet": WELL_KNOWN.replicasets, "StatefulSet": WELL_KNOWN.statefulsets}


class Disruptions:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("poddisruptionbudget", self.sync)
        cluster.feed(BUDGETS, self.work)
        cluster.feed(PODS, self.work, self._budgets_around)

    def _budgets_around(self, change: Change) -> Iterable[Key]:
        for budget in self._cluster.within(BUDGETS, change.key[0]):
            yield change.key[0], budget["metadata"]["name"]

    async def sync(self, key: Key) -> float | None:
        budget = self._cluster.get(BUDGETS, key)
        if budget is None:
            return None
        selected = select_labels(budget["spec"].get("selector"))
        pods = [pod for pod in self._cluster.within(PODS, key[0]) if selected(labels_of(pod)) and is_active(pod)]
        status = budget_status(budget, pods, self._expected(pods), self._cluster.timestamp())
        await self._cluster.set_status(BUDGETS, budget, status)
        return None

    def _expected(self, pods: list[JSON]) -> int:
        """How many Pods their controllers want, which percentages are of."""
        owners = {}
        for pod in pods:
            owner = controller_of(pod)
            resource = _OWNERS.get(owner["kind"]) if owner else None
            if owner and resource:
                key = (pod["metadata"]["namespace"], owner["name"])
                owners[owner["uid"]] = self._cluster.all(resource).get(key)
        alone = sum(1 for pod in pods if (controller_of(pod) or {}).get("uid") not in owners)
        return alone + sum(replicas(owner) for owner in owners.values() if owner)


def budget_status(budget: JSON, pods: list[JSON], expected: int, now: str) -> JSON:
    spec, before = budget["spec"], budget.get("status") or {}
    healthy = sum(1 for pod in pods if is_ready(pod) and not is_deleting(pod))
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - percentage_of(spec["maxUnavailable"], expected, round_up=True))
    else:
        desired = percentage_of(spec.get("minAvailable", 1), expected, round_up=True)
    allowed = max(0, healthy - desired) if expected else 0
    return {
        "conditions": [_condition(before, allowed > 0, budget["metadata"].get("generation", 0), now)],
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": budget["metadata"].get("generation", 0),
    }


def _condition(before: JSON, allowed: bool, generation: int, now: str) -> JSON:
    state, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    old: JSON = next((each for each in before.get("conditions") or () if each["type"] == "DisruptionAllowed"), {})
    since = old["lastTransitionTime"] if old.get("status") == state else now
    return {
        "type": "DisruptionAllowed",
        "status": state,
        "reason": reason,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
