"""Who a Pod belongs to: the workload's name and owner, and the canonical name under which telemetry shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mizzen.api.base import Model

CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"
WORKLOAD_NAME = "service.istio.io/workload-name"
_NAME_LABELS = (CANONICAL_NAME, "app.kubernetes.io/name", "app")
_REVISION_LABELS = (CANONICAL_REVISION, "app.kubernetes.io/version", "version")


class Workload(Model):
    name: str = ""
    kind: str = "Pod"
    api_version: str = "v1"

    def owner(self, namespace: str) -> str:
        """`ISTIO_META_OWNER`"""
        return f"kubernetes://apis/{self.api_version}/namespaces/{namespace}/{self.kind.lower()}s/{self.name}"


def canonical_name(labels: Mapping[str, str], workload: str) -> str:
    """https://istio.io/latest/docs/tasks/observability/... canonical service: label, app name, workload."""
    found = next((labels[label] for label in _NAME_LABELS if labels.get(label)), workload)
    return found[:63].strip("-_.")


def canonical_revision(labels: Mapping[str, str]) -> str:
    return next((labels[label] for label in _REVISION_LABELS if labels.get(label)), "latest")


def workload_of(metadata: Mapping[str, Any]) -> Workload:
    """From a Pod's controller. A ReplicaSet named after its Pods' template hash belongs to a Deployment, a Job with a
    timestamp to a CronJob."""
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None:
        return Workload(name=metadata.get("name") or (metadata.get("generateName") or "").rstrip("-"))
    name, kind, api_version = owner.get("name", ""), owner.get("kind", ""), owner.get("apiVersion", "")
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash", "")
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return Workload(name=name.removesuffix(f"-{template_hash}"), kind="Deployment", api_version=api_version)
    if kind == "Job" and (scheduled := re.fullmatch(r"(.+)-\d{8,}", name)):
        return Workload(name=scheduled[1], kind="CronJob", api_version=api_version)
    return Workload(name=name, kind=kind, api_version=api_version)
