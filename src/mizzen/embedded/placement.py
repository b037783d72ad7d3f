"""Whether a Pod may run on the node, as Kubernetes' scheduler decides it where there is one node. Pure.

What other Pods use or are is not looked at: requests reserve nothing, Pod affinity and spreading have no effect.
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.kube.api import JSON

NODE_NAME = "mizzen"
SCHEDULER = "default-scheduler"
_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def waits_for_us(pod: JSON) -> bool:
    """It has no node, nothing holds it back, and it leaves the choice to no scheduler but the usual one."""
    spec = pod["spec"]
    ours = spec.get("schedulerName") in (None, "", SCHEDULER)
    return ours and not spec.get("nodeName") and not spec.get("schedulingGates")


def why_not_on(pod: JSON, node: JSON | None) -> str:
    """The reason why the Pod cannot run on the node, as the scheduler words it, or "".

    A node that has not registered yet takes every Pod: there is only one.
    """
    if node is None:
        return ""
    reason = _objection(pod["spec"], node)
    return f"0/1 nodes are available: 1 node(s) {reason}." if reason else ""


def _objection(spec: JSON, node: JSON) -> str:
    if not is_chosen(spec, node):
        return "didn't match Pod's node affinity/selector"
    told = node.get("spec") or {}
    if told.get("unschedulable") and not _is_tolerated(spec, _UNSCHEDULABLE):
        return "were unschedulable"
    for taint in told.get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _is_tolerated(spec, taint):
            return f"had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    return ""


def is_chosen(spec: JSON, node: JSON) -> bool:
    """Whether the Pod's `nodeSelector` and the node affinity that it requires take the node."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return not required or any(_takes(term, node) for term in required.get("nodeSelectorTerms") or ())


def _takes(term: JSON, node: JSON) -> bool:
    """A term that asks for nothing takes nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    labels = node["metadata"].get("labels") or {}
    if not expressions and not fields:
        return False
    return _all_hold(expressions, labels) and _all_hold(fields, {"metadata.name": node["metadata"]["name"]})


def _all_hold(expressions: Iterable[JSON], values: Mapping[str, str]) -> bool:
    return all(_holds(each, values.get(each["key"])) for each in expressions)


def _holds(expression: JSON, value: str | None) -> bool:
    wanted = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return _compares(expression["operator"], value, wanted)


def _compares(operator: str, value: str | None, wanted: list[str]) -> bool:
    """`Gt` and `Lt`: of whole numbers; nothing else is greater or less than anything."""
    try:
        difference = int(value or "") - int(wanted[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if operator == "Gt" else difference < 0


def _is_tolerated(spec: JSON, taint: JSON) -> bool:
    return any(_tolerates(each, taint) for each in spec.get("tolerations") or ())


def _tolerates(toleration: JSON, taint: JSON) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))
