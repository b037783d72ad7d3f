"""Who signs for the mesh, whom it trusts, and how far one authority has followed another: istiod is asked."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from mizzen.api.base import Model
from mizzen.explain.proxy_status import MONITORING_PORT
from mizzen.explain.reach import http_get, serves
from mizzen.kube.api import WELL_KNOWN, NotFound, Selector
from mizzen.kube.http import HttpApi

ROTATE = "ca.mizzen.io/rotate"
SELF_SIGNED = "istio-ca-secret"


class RootRow(Model):
    """A root that peers are checked against."""

    role: str
    """signs, next, retired, or trusted (a guest's)."""
    fingerprint: str
    """SHA-256, in hexadecimal."""
    subject: str
    key: str
    not_after: str
    trusted_until: str = ""
    """A retired root is dropped then, or when no workload holds a certificate that leads to it."""
    workloads: int = 0
    """Pods whose newest certificate leads to it."""


class AuthorityState(Model):
    """What one istiod says; all read the same record."""

    istiod: str
    source: str
    """The Secret that the authority comes from."""
    phase: str
    """steady, spreading (the next is trusted and does not sign yet), or retiring (the last is still trusted)."""
    since: str
    roots: tuple[RootRow, ...]
    proxies: int
    """Pods with a proxy."""
    waits_for: int = 0
    """How many of them the phase waits for."""
    waits_for_pods: tuple[str, ...] = ()
    """Some of them, as `POD.NAMESPACE`."""
    problem: str = ""
    """Why the Secret is not followed."""

    @property
    def signer(self) -> str:
        return next((one.fingerprint for one in self.roots if one.role == "signs"), "")


async def authority(api: HttpApi, namespace: str = "istio-system") -> AuthorityState:
    """As the istiod says that is furthest behind. Raises NotFound when none is ready, and ApiError."""
    pods = (await api.list(WELL_KNOWN.pods, namespace, Selector(labels="app=istiod"))).items
    ready = sorted(pod["metadata"]["name"] for pod in pods if serves(pod))
    if not ready:
        raise NotFound(404, "NotFound", f"no istiod is ready in namespace {namespace}")
    answers = await asyncio.gather(*(http_get(api, namespace, pod, MONITORING_PORT, "/debug/ca") for pod in ready))
    return min((state(json.loads(answer)) for answer in answers), key=lambda one: one.since)


def state(answer: dict[str, Any]) -> AuthorityState:
    """From the answer of `/debug/ca`."""
    roots = tuple(
        RootRow(
            role=one["role"],
            fingerprint=one["fingerprint"],
            subject=one["subject"],
            key=one["key"],
            not_after=one["notAfter"],
            trusted_until=one["trustedUntil"],
            workloads=one["workloads"],
        )
        for one in answer["roots"]
    )
    return AuthorityState(
        istiod=answer["istiod"],
        source=answer["source"],
        phase=answer["phase"],
        since=answer["since"],
        roots=roots,
        proxies=answer["proxies"],
        waits_for=answer["waitsFor"],
        waits_for_pods=tuple(answer["waitsForPods"]),
        problem=answer["problem"],
    )


async def ask_for_a_new_root(api: HttpApi, namespace: str = "istio-system") -> None:
    """istiod makes it and lets it follow. Raises NotFound, ApiError."""
    patch = {"metadata": {"annotations": {ROTATE: datetime.now(UTC).isoformat(timespec="seconds")}}}
    await api.patch(WELL_KNOWN.secrets, SELF_SIGNED, patch, namespace, type="merge")
