"""Eviction: a deletion that a PodDisruptionBudget may refuse.

https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from mizzen.embedded.apiserver import errors, selectors
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Entry
from mizzen.kube.api import JSON, ApiError

BUDGETS = "poddisruptionbudgets.policy"


def budget_of(store: Store, pod: Entry) -> JSON | None:
    """The budget to be asked and charged for this Pod; None if it may go without. Raises 429 and 500."""
    document = pod.document()
    phase = (document.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in document["metadata"]:
        return None
    budgets = [each for each in _around(store, pod) if each["spec"].get("selector") is not None]
    mine = [each for each in budgets if _selects(each, pod)]
    if len(mine) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise errors.failure(500, "InternalError", message)
    if not mine or _may_go_unwell(document, mine[0]):
        return None
    _check(mine[0])
    return mine[0]


def charged(budget: JSON) -> JSON:
    """The budget with one disruption less; its controller counts again when the Pod is gone."""
    budget["status"]["disruptionsAllowed"] -= 1
    return budget


def _around(store: Store, pod: Entry) -> list[JSON]:
    return [entry.document() for entry in store.entries(BUDGETS, pod.key.namespace)]


def _selects(budget: JSON, pod: Entry) -> bool:
    return selectors.matches_labels(selectors.requirements_of(budget["spec"]["selector"]), pod.labels)


def _may_go_unwell(pod: JSON, budget: JSON) -> bool:
    """A Pod that is not ready counts for nothing, unless the application is in trouble as it is."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        return False
    status = budget.get("status") or {}
    always = budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    enough = status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0
    return bool(always or enough)


def _check(budget: JSON) -> None:
    status, metadata = budget.get("status") or {}, budget["metadata"]
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        raise _refusal(f"The disruption budget {metadata['name']} is still being processed by the server.")
    if status.get("disruptionsAllowed", 0) <= 0:
        raise _refusal(
            f"The disruption budget {metadata['name']} needs {status.get('desiredHealthy', 0)} healthy pods and has "
            f"{status.get('currentHealthy', 0)} currently"
        )


def _refusal(why: str) -> ApiError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    details = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    return errors.failure(429, "TooManyRequests", message, details)
