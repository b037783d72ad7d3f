"""What the server itself writes into an object on its way to the store: metadata, generation, status isolation.

Pure: time and chance are parameters. Kubernetes calls these rules a registry's "strategy".
"""

from __future__ import annotations

from datetime import datetime

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON

GENERATE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"

_WITH_GENERATION = frozenset(
    [
        "deployments.apps",
        "replicasets.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
        "replicationcontrollers",
        "poddisruptionbudgets.policy",
        "ingresses.networking.k8s.io",
        "networkpolicies.networking.k8s.io",
        "ingressclasses.networking.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "endpointslices.discovery.k8s.io",
    ]
)
_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_INITIAL_STATUS: dict[str, JSON] = {
    "namespaces": {"phase": "Active"},
    "pods": {"phase": "Pending"},
    "services": {"loadBalancer": {}},
    "deployments.apps": {},
    "replicasets.apps": {"replicas": 0},
    "statefulsets.apps": {"replicas": 0},
    "daemonsets.apps": {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    },
    "jobs.batch": {},
    "cronjobs.batch": {},
    "persistentvolumeclaims": {"phase": "Pending"},
    "persistentvolumes": {"phase": "Pending"},
}


def timestamp(now: datetime) -> str:
    """RFC 3339 in whole seconds, as `metav1.Time` is written. `now` is in UTC."""
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")


def has_generation(kind: ResourceType) -> bool:
    return kind.custom or kind.storage in _WITH_GENERATION


def reset_for_create(kind: ResourceType, obj: JSON, uid: str, now: datetime) -> None:
    """Write what only the server may say of a new object."""
    metadata = obj["metadata"]
    for name in (*_SERVER_OWNED, "resourceVersion", "selfLink"):
        metadata.pop(name, None)
    metadata["uid"], metadata["creationTimestamp"] = uid, timestamp(now)
    _drop_empty(metadata)
    if has_generation(kind):
        metadata["generation"] = 1
    if kind.has_status() and kind.storage not in ("nodes", "persistentvolumes"):
        obj.pop("status", None)
    if kind.storage in _INITIAL_STATUS:
        obj.setdefault("status", dict(_INITIAL_STATUS[kind.storage]))


def keep_server_owned(old: JSON, new: JSON) -> None:
    """An update cannot change what the server wrote."""
    before, after = old["metadata"], new["metadata"]
    for name in _SERVER_OWNED:
        after.pop(name, None)
        if name in before:
            after[name] = before[name]
    after.pop("selfLink", None)
    _drop_empty(after)


def _drop_empty(metadata: JSON) -> None:
    """Go does not write these when they are empty, and clients do not expect to read them."""
    for name in ("labels", "annotations", "ownerReferences", "finalizers"):
        if name in metadata and not metadata[name]:
            del metadata[name]


def isolate(kind: ResourceType, old: JSON, new: JSON, subresource: str) -> JSON:
    """What of an update counts: each subresource changes its own part, the main resource everything but `status`."""
    if subresource == "ephemeralcontainers":
        added = new.get("spec", {}).get("ephemeralContainers")
        return {**old, "metadata": new["metadata"], "spec": {**old["spec"], "ephemeralContainers": added or []}}
    if not kind.has_status() or subresource == "binding":
        return new
    status_only = subresource in ("status", "approval")
    source, target = (new, dict(old)) if status_only else (old, new)
    if status_only:
        target["metadata"] = {**old["metadata"], **_status_metadata(kind, old, new)}
    target.pop("status", None)
    if "status" in source:
        target["status"] = source["status"]
    return target


def _status_metadata(kind: ResourceType, old: JSON, new: JSON) -> JSON:
    """Built-in kinds let a status update carry labels and annotations; custom resources do not."""
    names = () if kind.custom else ("labels", "annotations")
    kept = {name: new["metadata"][name] for name in names if name in new["metadata"]}
    return {**kept, **{name: new["metadata"].get(name) for name in ("managedFields",) if name in new["metadata"]}}


def bump_generation(kind: ResourceType, old: JSON, new: JSON) -> None:
    """One more when anything but metadata and status changed."""
    if has_generation(kind) and _desired(old, kind) != _desired(new, kind):
        new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1


def _desired(obj: JSON, kind: ResourceType) -> JSON:
    ignored = {"metadata", "apiVersion", "kind", *(("status",) if kind.has_status() else ())}
    return {key: value for key, value in obj.items() if key not in ignored}


def same(old: JSON, new: JSON) -> bool:
    """Whether a write changes nothing but bookkeeping (resourceVersion, times in managedFields)."""
    return {**old, "metadata": _comparable(old["metadata"])} == {**new, "metadata": _comparable(new["metadata"])}


def _comparable(metadata: JSON) -> JSON:
    kept = {key: value for key, value in metadata.items() if key not in ("resourceVersion", "managedFields")}
    fields = [{**each, "time": ""} for each in metadata.get("managedFields") or ()]
    empty = [key for key, value in kept.items() if value in ({}, [], None, "")]
    for key in empty:
        del kept[key]
    return {**kept, "managedFields": fields}


def deletion_finalizers(finalizers: list[str], policy: str | None) -> list[str]:
    """What `propagationPolicy` makes of an object's finalizers."""
    if policy is None:
        return finalizers
    kept = [each for each in finalizers if each not in (FOREGROUND, ORPHAN)]
    return kept + {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])


def grace_seconds(kind: ResourceType, obj: JSON, asked: int | None) -> int:
    """How long a graceful deletion takes; 0 means at once. Only Pods on a node have one."""
    if kind.storage != "pods" or not obj.get("spec", {}).get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    default = obj["spec"].get("terminationGracePeriodSeconds", 30)
    return max(0, int(default if asked is None else asked))


def may_go(kind: ResourceType, obj: JSON) -> bool:
    """Whether an object that is being deleted has nothing left that holds it."""
    metadata = obj["metadata"]
    held = metadata.get("finalizers") or (kind.storage == "namespaces" and obj.get("spec", {}).get("finalizers"))
    return "deletionTimestamp" in metadata and not held and not metadata.get("deletionGracePeriodSeconds")


def generated_name(prefix: str, suffix: str) -> str:
    """`generateName` cuts the prefix so that the whole stays a DNS label."""
    return prefix[: 63 - len(suffix)] + suffix


def check_versions(kind: ResourceType, obj: JSON) -> None:
    """Fill in `apiVersion` and `kind` where a client left them out; refuse others. Raises 400."""
    resource = kind.resource
    if obj.get("kind") and obj["kind"] != resource.kind:
        message = f'{obj["kind"]} in version "{obj.get("apiVersion", "")}" cannot be handled as a {resource.kind}'
        raise errors.bad_request(message)
    if obj.get("apiVersion") and obj["apiVersion"] != resource.api_version:
        raise errors.bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version "
            f"({resource.api_version})"
        )
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
