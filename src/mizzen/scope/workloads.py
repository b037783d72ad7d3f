"""What a Pod is called in telemetry: its workload, canonical service and revision."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mizzen.api.apps import ReplicaSet
from mizzen.api.base import OwnerReference
from mizzen.api.core import Pod
from mizzen.scope.snapshot import Snapshot

NAME_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
REVISION_LABELS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")
_TEMPLATE_HASH = "pod-template-hash"
_LONGEST = 63


def canonical_name(labels: Mapping[str, str], workload: str) -> str:
    found = next((labels[key] for key in NAME_LABELS if labels.get(key)), workload)
    return found[:_LONGEST].rstrip("-_.")


def canonical_revision(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in REVISION_LABELS if labels.get(key)), "latest")


def _controller(owners: tuple[OwnerReference, ...]) -> OwnerReference | None:
    return next((owner for owner in owners if owner.controller), None)


def workload_name(snapshot: Snapshot, pod: Pod) -> str:
    """The Deployment behind a ReplicaSet's Pod, the CronJob behind a Job's, else whoever controls the Pod."""
    owner = _controller(pod.metadata.owner_references)
    if owner is None:
        return pod.metadata.name
    if owner.kind == "ReplicaSet":
        replica_set = snapshot.get(ReplicaSet, pod.metadata.namespace, owner.name)
        above = _controller(replica_set.metadata.owner_references) if replica_set else None
        return above.name if above else _without_hash(owner.name, pod.metadata.labels.get(_TEMPLATE_HASH, ""))
    if owner.kind == "Job":
        return re.sub(r"-\d{8,10}\Z", "", owner.name)
    return owner.name


def _without_hash(name: str, template_hash: str) -> str:
    return name.removesuffix(f"-{template_hash}") if template_hash else name
