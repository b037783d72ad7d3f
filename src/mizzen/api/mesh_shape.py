"""networking.istio.io, second part: kinds that are known and not served yet (`ignored.py` says so)."""

from __future__ import annotations

from typing import Any

from mizzen.api.base import Object


class ServiceEntry(Object[dict[str, Any]]):
    """Services that Kubernetes does not know."""


class Sidecar(Object[dict[str, Any]]):
    """What a workload's proxy is told about the mesh."""


class EnvoyFilter(Object[dict[str, Any]]):
    """Changes to the generated Envoy configuration."""


class WorkloadEntry(Object[dict[str, Any]]):
    """A workload outside Kubernetes."""


class WorkloadGroup(Object[dict[str, Any]]):
    """Workloads outside Kubernetes that are alike."""


class ProxyConfig(Object[dict[str, Any]]):
    """Settings of a namespace's or workload's proxies."""
