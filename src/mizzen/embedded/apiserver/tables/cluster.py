"""Columns of Nodes, Namespaces, Events, configuration, storage, RBAC and the API's own kinds."""

from __future__ import annotations

from datetime import datetime

from mizzen.embedded.apiserver.tables.cells import (
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    age,
    at,
    count,
    duration,
    joined,
    number,
    text,
)
from mizzen.embedded.apiserver.tables.workloads import AGE
from mizzen.kube.api import JSON

_ROLE = "node-role.kubernetes.io/"


def _node_status(node: JSON) -> str:
    ready = [each for each in at(node, "status.conditions") or () if each["type"] == "Ready"]
    words = [("Ready" if ready[0]["status"] == "True" else "NotReady") if ready else "Unknown"]
    if at(node, "spec.unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: JSON) -> str:
    names = node["metadata"].get("labels") or {}
    return joined(sorted(key.removeprefix(_ROLE) for key in names if key.startswith(_ROLE)))


def _node_address(kind: str) -> Column:
    def cell(node: JSON) -> str:
        found = [each["address"] for each in at(node, "status.addresses") or () if each["type"] == kind]
        return found[0] if found else NONE

    return text({"InternalIP": "Internal-IP", "ExternalIP": "External-IP"}[kind], cell, priority=1)


def _node_info(name: str, key: str) -> Column:
    return text(name, lambda node: at(node, f"status.nodeInfo.{key}") or UNKNOWN, priority=1)


def _phase(obj: JSON) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else at(obj, "status.phase") or ""


def _event_time(event: JSON, first: bool) -> str | None:
    if first:
        return event.get("firstTimestamp") or event.get("eventTime")
    series = at(event, "series.lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("firstTimestamp") or event.get("eventTime")


def _last_seen(event: JSON, now: datetime) -> str:
    return age(_event_time(event, first=False), now)


def _event_object(event: JSON) -> str:
    involved = event.get("involvedObject") or {}
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _event_source(event: JSON) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    return ", ".join(part for part in (component, source.get("host")) if part)


def _event_count(event: JSON) -> int:
    return int(at(event, "series.count") or event.get("count") or 1)


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(values: list[str] | None) -> str:
    return ",".join(_MODES.get(each, each) for each in values or ())


def _claim(volume: JSON) -> str:
    reference = at(volume, "spec.claimRef")
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}" if reference else ""


def _default_name(obj: JSON) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return f"{obj['metadata']['name']} (default)" if default else str(obj["metadata"]["name"])


def _subjects(kind: str) -> Column:
    def cell(binding: JSON) -> str:
        found = [each for each in binding.get("subjects") or () if each["kind"] == kind]
        full = [f"{each['namespace']}/{each['name']}" if each.get("namespace") else each["name"] for each in found]
        return ", ".join(full)

    return text(f"{kind}s", cell, priority=1)


def _param_kind(found: JSON) -> str:
    return f"{found.get('apiVersion')}/{found.get('kind')}" if found else UNSET


def _param_ref(found: JSON) -> str:
    name: str = found.get("name") or ""
    return f"{found['namespace']}/{name}" if name and found.get("namespace") else name or UNSET


def _requested_duration(obj: JSON) -> str:
    seconds = at(obj, "spec.expirationSeconds")
    return NONE if seconds is None else duration(seconds)


def _csr_condition(request: JSON) -> str:
    found = [each["type"] for each in at(request, "status.conditions") or ()]
    issued = ["Issued"] if at(request, "status.certificate") else []
    return ",".join([*found, *issued]) or "Pending"


# Kubernetes shows when a role was made as a time, not as an age.
_CREATED = text("Created At", lambda obj: obj["metadata"].get("creationTimestamp"))
_ROLE_REF = text("Role", lambda obj: f"{at(obj, 'roleRef.kind')}/{at(obj, 'roleRef.name')}")
_BINDING = (NAME, _ROLE_REF, AGE, _subjects("User"), _subjects("Group"), _subjects("ServiceAccount"))
_WEBHOOKS = (NAME, number("Webhooks", lambda obj: count(obj, "webhooks")), AGE)

CLUSTER: dict[str, tuple[Column, ...]] = {
    "nodes": (
        NAME,
        text("Status", _node_status),
        text("Roles", _node_roles),
        AGE,
        text("Version", lambda node: at(node, "status.nodeInfo.kubeletVersion") or ""),
        _node_address("InternalIP"),
        _node_address("ExternalIP"),
        _node_info("OS-Image", "osImage"),
        _node_info("Kernel-Version", "kernelVersion"),
        _node_info("Container-Runtime", "containerRuntimeVersion"),
    ),
    "namespaces": (NAME, text("Status", _phase), AGE),
    "events": (
        Column("Last Seen", _last_seen),
        text("Type", lambda event: event.get("type", "")),
        text("Reason", lambda event: event.get("reason", "")),
        text("Object", _event_object),
        text("Subobject", lambda event: at(event, "involvedObject.fieldPath") or "", priority=1),
        text("Source", _event_source, priority=1),
        text("Message", lambda event: (event.get("message") or event.get("note") or "").strip()),
        Column("First Seen", lambda event, now: age(_event_time(event, first=True), now), priority=1),
        number("Count", _event_count, priority=1),
        Column("Name", NAME.cell, format="name", priority=1),
    ),
    "configmaps": (NAME, number("Data", lambda obj: count(obj, "data") + count(obj, "binaryData")), AGE),
    "secrets": (
        NAME,
        text("Type", lambda obj: obj.get("type", "Opaque")),
        number("Data", lambda obj: count(obj, "data")),
        AGE,
    ),
    "serviceaccounts": (NAME, number("Secrets", lambda obj: count(obj, "secrets")), AGE),
    "persistentvolumeclaims": (
        NAME,
        text("Status", _phase),
        text("Volume", lambda obj: at(obj, "spec.volumeName") or ""),
        text("Capacity", lambda obj: at(obj, "status.capacity.storage") or ""),
        text("Access Modes", lambda obj: _modes(at(obj, "status.accessModes"))),
        text("StorageClass", lambda obj: at(obj, "spec.storageClassName") or ""),
        text("VolumeAttributesClass", lambda obj: at(obj, "spec.volumeAttributesClassName") or UNSET),
        AGE,
        text("VolumeMode", lambda obj: at(obj, "spec.volumeMode") or "Filesystem", priority=1),
    ),
    "persistentvolumes": (
        NAME,
        text("Capacity", lambda obj: at(obj, "spec.capacity.storage") or ""),
        text("Access Modes", lambda obj: _modes(at(obj, "spec.accessModes"))),
        text("Reclaim Policy", lambda obj: at(obj, "spec.persistentVolumeReclaimPolicy") or ""),
        text("Status", _phase),
        text("Claim", _claim),
        text("StorageClass", lambda obj: at(obj, "spec.storageClassName") or ""),
        text("Reason", lambda obj: at(obj, "status.reason") or ""),
        AGE,
    ),
    "storageclasses.storage.k8s.io": (
        Column("Name", lambda obj, _: _default_name(obj), format="name"),
        text("Provisioner", lambda obj: obj.get("provisioner", "")),
        text("ReclaimPolicy", lambda obj: obj.get("reclaimPolicy", "Delete")),
        text("VolumeBindingMode", lambda obj: obj.get("volumeBindingMode", "Immediate")),
        text("AllowVolumeExpansion", lambda obj: str(bool(obj.get("allowVolumeExpansion"))).lower()),
        AGE,
    ),
    "priorityclasses.scheduling.k8s.io": (
        NAME,
        number("Value", lambda obj: obj.get("value", 0)),
        text("Global-Default", lambda obj: str(bool(obj.get("globalDefault"))).lower()),
        AGE,
        text("PreemptionPolicy", lambda obj: obj.get("preemptionPolicy", "PreemptLowerPriority")),
    ),
    "leases.coordination.k8s.io": (NAME, text("Holder", lambda obj: at(obj, "spec.holderIdentity") or ""), AGE),
    "customresourcedefinitions.apiextensions.k8s.io": (NAME, _CREATED),
    "roles.rbac.authorization.k8s.io": (NAME, _CREATED),
    "clusterroles.rbac.authorization.k8s.io": (NAME, _CREATED),
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "validatingadmissionpolicies.admissionregistration.k8s.io": (
        NAME,
        number("Validations", lambda obj: len(at(obj, "spec.validations") or ())),
        text("ParamKind", lambda obj: _param_kind(at(obj, "spec.paramKind") or {})),
        AGE,
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": (
        NAME,
        text("PolicyName", lambda obj: at(obj, "spec.policyName")),
        text("ParamRef", lambda obj: _param_ref(at(obj, "spec.paramRef") or {})),
        AGE,
    ),
    "certificatesigningrequests.certificates.k8s.io": (
        NAME,
        AGE,
        text("SignerName", lambda obj: at(obj, "spec.signerName") or ""),
        text("Requestor", lambda obj: at(obj, "spec.username") or ""),
        text("RequestedDuration", _requested_duration),
        text("Condition", _csr_condition),
    ),
    "resourcequotas": (NAME, AGE, text("Request", lambda obj: joined(at(obj, "spec.hard") or ()))),
    "limitranges": (NAME, text("Created At", lambda obj: obj["metadata"].get("creationTimestamp"))),
}
