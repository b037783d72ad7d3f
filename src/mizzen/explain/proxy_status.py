"""Which proxies have what istiod wants them to have: all replicas asked, one row per proxy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from msgspec import field

from mizzen.api.base import Model
from mizzen.explain.reach import http_get, serves
from mizzen.kube.api import WELL_KNOWN, ApiError, NotFound, Selector
from mizzen.kube.http import HttpApi

MONITORING_PORT = 15014
TYPES = ("CDS", "LDS", "EDS", "RDS", "ECDS", "SDS")
"""In the order of `istioctl proxy-status`."""


class Refused(Model):
    """A resource that the proxy did not take, and what it said."""

    type: str
    name: str
    message: str


class ProxySync(Model):
    """One row of `proxy-status`."""

    name: str
    """`POD.NAMESPACE`"""
    cluster: str
    istiod: str
    version: str
    types: dict[str, str] = field(default_factory=dict)
    """CDS, LDS … to SYNCED, STALE (sent, not acknowledged) or ERROR (refused)."""
    refused: tuple[Refused, ...] = ()

    @property
    def subscribed(self) -> str:
        """`4 (CDS,LDS,EDS,RDS)`"""
        known = [name for name in TYPES if name in self.types]
        return f"{len(known)} ({','.join(known)})"


async def proxy_status(api: HttpApi, namespace: str = "istio-system") -> list[ProxySync]:
    """Sorted by name. Raises NotFound when no istiod is ready, and ApiError."""
    pods = (await api.list(WELL_KNOWN.pods, namespace, Selector(labels="app=istiod"))).items
    ready = [pod["metadata"]["name"] for pod in pods if serves(pod)]
    if not ready:
        raise NotFound(404, "NotFound", f"no istiod is ready in namespace {namespace}")
    answers = await asyncio.gather(*(_sync(api, namespace, pod) for pod in ready))
    return sorted((row for rows in answers for row in rows), key=lambda row: row.name)


async def _sync(api: HttpApi, namespace: str, pod: str) -> list[ProxySync]:
    body = await http_get(api, namespace, pod, MONITORING_PORT, "/debug/syncz")
    return [row(entry) for entry in json.loads(body)]


def row(entry: dict[str, Any]) -> ProxySync:
    """From one entry of `/debug/syncz`."""
    return ProxySync(
        name=entry["proxy"],
        cluster=entry["cluster_id"],
        istiod=entry["istiod"],
        version=entry["version"],
        types={name: state["state"] for name, state in entry["types"].items()},
        refused=tuple(Refused(**one) for one in entry["refused"]),
    )


async def proxy_versions(api: HttpApi, namespace: str = "istio-system") -> dict[str, int]:
    """How many proxies run each version; {} when there is no mesh to ask."""
    try:
        rows = await proxy_status(api, namespace)
    except ApiError:
        return {}
    versions = [one.version for one in rows]
    return {version: versions.count(version) for version in sorted(set(versions))}
