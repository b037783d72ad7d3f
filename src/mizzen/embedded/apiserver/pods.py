"""What the server adds to Pods: service account, token volume, priority, tolerations, and the node they run on.

Pure. Kubernetes' admission plugins ServiceAccount, DefaultTolerationSeconds and Priority, and its scheduler, do this.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.placement import NODE_NAME
from mizzen.kube.api import JSON

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
TOKEN_SECONDS = 3607
"""What Kubernetes asks for; the odd seven seconds tell such tokens from others."""
EVICTION_SECONDS = 300


def use_service_account(pod: JSON, account: JSON | None, suffix: str) -> None:
    """Name the account and mount its token where the Pod does not say otherwise."""
    spec = pod["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if account and not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    wanted = spec.get("automountServiceAccountToken", (account or {}).get("automountServiceAccountToken"))
    if wanted is not False:
        _mount_token(spec, suffix)


def _mount_token(spec: JSON, suffix: str) -> None:
    bare = [each for each in _long_lived(spec) if not _has_mount(each)]
    if not bare:
        return
    volumes = spec.setdefault("volumes", [])
    name = next((each["name"] for each in volumes if each["name"].startswith("kube-api-access-")), None)
    if name is None:
        name = f"kube-api-access-{suffix}"
        volumes.append({"name": name, "projected": _token_sources()})
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container.setdefault("volumeMounts", []).append(mount)


def _long_lived(spec: JSON) -> Iterator[JSON]:
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()


def _has_mount(container: JSON) -> bool:
    return any(mount.get("mountPath") == TOKEN_PATH for mount in container.get("volumeMounts") or ())


def _token_sources() -> JSON:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def add_tolerations(pod: JSON) -> None:
    """Pods stay five minutes on a node that is not ready or not reachable."""
    tolerations = pod["spec"].setdefault("tolerations", [])
    for taint in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{taint}"
        if not any(each.get("key") in (key, None, "") for each in tolerations):
            wait = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": EVICTION_SECONDS}
            tolerations.append(wait)


def set_priority(pod: JSON, classes: dict[str, JSON]) -> None:
    """`priority` from the named class, or from the global default. Raises KeyError for an unknown class."""
    spec = pod["spec"]
    name = spec.get("priorityClassName") or next((n for n, each in classes.items() if each.get("globalDefault")), "")
    if name:
        spec["priorityClassName"] = name
    chosen = classes[name] if name else {}
    spec["priority"] = chosen.get("value", 0)
    spec.setdefault("preemptionPolicy", chosen.get("preemptionPolicy", "PreemptLowerPriority"))


SYSTEM_CLASSES: dict[str, JSON] = {
    "system-cluster-critical": {"value": 2000000000},
    "system-node-critical": {"value": 2000001000},
}


def qos_class(spec: JSON) -> str:
    """Guaranteed, Burstable or BestEffort.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    """
    resources = [each.get("resources") or {} for each in _long_lived(spec)]
    if not any(each.get("requests") or each.get("limits") for each in resources):
        return "BestEffort"
    return "Guaranteed" if all(map(_guaranteed, resources)) else "Burstable"


def _guaranteed(resources: JSON) -> bool:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return {"cpu", "memory"} <= limits.keys() and all(
        requests.get(name, limits[name]) == limits[name] for name in limits
    )


def hold_at_gates(pod: JSON, now: str) -> None:
    """Say that the Pod waits until somebody takes its scheduling gates away."""
    message = "Scheduling is blocked due to non-empty scheduling gates"
    told = {"status": "False", "reason": "SchedulingGated", "message": message}
    pod["status"]["conditions"] = [{"type": "PodScheduled", "lastProbeTime": None, "lastTransitionTime": now, **told}]


def bind(pod: JSON, reason: str, now: str, node: str = NODE_NAME) -> None:
    """Put the Pod on the node, or say in its condition why not."""
    status = pod.setdefault("status", {})
    condition: JSON = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    if reason:
        condition.update(status="False", reason="Unschedulable", message=reason)
    else:
        pod["spec"]["nodeName"] = node
    others = [each for each in status.get("conditions") or () if each["type"] != "PodScheduled"]
    status["conditions"] = [*others, condition]


_MUTABLE = (
    "activeDeadlineSeconds",
    "tolerations",
    "terminationGracePeriodSeconds",
    "ephemeralContainers",
    "schedulingGates",
)


def check_update(old: JSON, new: JSON) -> list[Cause]:
    """A running Pod's spec is fixed but for images and a few fields."""
    before, after = ([each["name"] for each in pod["spec"].get("schedulingGates") or ()] for pod in (old, new))
    if added := [name for name in after if name not in before]:
        why = f'only deletion is allowed, but found new scheduling gate "{added[0]}"'
        return [Cause("FieldValueForbidden", "spec.schedulingGates", f"Forbidden: {why}")]
    if _fixed_part(old["spec"]) == _fixed_part(new["spec"]):
        return []
    why = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    return [Cause("FieldValueForbidden", "spec", f"Forbidden: {why}")]


def _fixed_part(spec: JSON) -> JSON:
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for part in ("containers", "initContainers"):
        fixed[part] = [{**container, "image": ""} for container in spec.get(part) or ()]
    return fixed
