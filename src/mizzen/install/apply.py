"""Installing into a cluster, and taking out again: the shell around `manifests`.

Writes by server-side apply, so that what others own (a caBundle that istiod put in) stays when installing again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

from mizzen.install.labels import COMPONENT
from mizzen.install.manifests import ISTIOD, manifests
from mizzen.install.options import Options
from mizzen.install.types import resource_of
from mizzen.kube.api import WELL_KNOWN, Api, ApiError, NotFound, Resource, Selector, WriteOptions
from mizzen.kube.conditions import holds

JSON: TypeAlias = dict[str, Any]
Say: TypeAlias = Callable[[str], object]

MANAGER = "mizzen-install"
_POLL_SECONDS = 0.1
_AT_ONCE = 6
"""So many connections are made. One for each of forty objects costs more in handshakes than the objects do."""
_FIRST = ("Namespace",)
_LAST = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_DONE = {
    "Base": "✔ Istio core installed ⛵️",
    "Pilot": "✔ Istiod installed 🧠",
    "EgressGateways": "✔ Egress gateways installed 🛫",
    "IngressGateways": "✔ Ingress gateways installed 🛬",
}


class NotInstalled(Exception):
    """The mesh did not come up; the message says which part, and what its Pods say."""


async def install(api: Api, options: Options, say: Say, *, timeout: float = 300.0, dry_run: bool = False) -> None:
    """Apply everything and wait until it is ready, with istioctl's lines of progress.

    Raises NotInstalled after `timeout` seconds, and ApiError.
    """
    objects = manifests(options)
    write = WriteOptions(manager=MANAGER, force=True, dry_run=dry_run)
    turns = asyncio.Semaphore(_AT_ONCE)
    for stage in _stages(objects):
        await asyncio.gather(*(_apply(api, one, write, turns) for one in stage))
    deadline = time.monotonic() + timeout
    for component, line in _DONE.items():
        members = [one for one in objects if _component(one) == component]
        if members:
            if not dry_run:
                await _ready(api, members, deadline)
            say(line)
    say("✔ Installation complete")


def _component(obj: JSON) -> str:
    return str((obj["metadata"].get("labels") or {}).get(COMPONENT, ""))


def _stages(objects: list[JSON]) -> list[list[JSON]]:
    """What must be there before the rest, the rest, and what would stand in its way."""
    first = [one for one in objects if one["kind"] in _FIRST]
    last = [one for one in objects if one["kind"] in _LAST]
    return [first, [one for one in objects if one["kind"] not in (*_FIRST, *_LAST)], last]


async def _apply(api: Api, obj: JSON, write: WriteOptions, turns: asyncio.Semaphore) -> None:
    metadata = obj["metadata"]
    resource = resource_of(obj["apiVersion"], obj["kind"])
    try:
        async with turns:
            await api.patch(resource, metadata["name"], obj, metadata.get("namespace"), type="apply", options=write)
    except NotFound:
        if not write.dry_run:  # a dry run created no namespace
            raise


async def _ready(api: Api, objects: Iterable[JSON], deadline: float) -> None:
    for obj in objects:
        if obj["kind"] == "Deployment":
            await _until(partial(_available, api, obj), deadline, partial(_trouble, api, obj))
        elif obj["kind"] == "CustomResourceDefinition":
            await _until(partial(_established, api, obj), deadline, partial(_named, obj))


async def _until(holds: Callable[[], Awaitable[bool]], deadline: float, say_why: Callable[[], Awaitable[str]]) -> None:
    while not await holds():
        if time.monotonic() > deadline:
            raise NotInstalled(await say_why())
        await asyncio.sleep(_POLL_SECONDS)


async def _available(api: Api, deployment: JSON) -> bool:
    metadata = deployment["metadata"]
    found = await api.get(WELL_KNOWN.deployments, metadata["name"], metadata["namespace"])
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas")]
    return seen and all(count >= wanted for count in counts) and await _ready_pods(api, found) >= wanted


async def _ready_pods(api: Api, deployment: JSON) -> int:
    """Counted one by one: for a moment after a cluster's start, a Deployment's status tells of its former life."""
    pods = await _pods(api, deployment)
    return sum(holds(pod, "Ready") and not pod["metadata"].get("deletionTimestamp") for pod in pods)


async def _pods(api: Api, deployment: JSON) -> list[JSON]:
    labels = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    return (await api.list(WELL_KNOWN.pods, deployment["metadata"]["namespace"], Selector(labels=labels))).items


async def _established(api: Api, definition: JSON) -> bool:
    return holds(await api.get(WELL_KNOWN.crds, definition["metadata"]["name"]), "Established")


async def _named(obj: JSON) -> str:
    return f"{obj['kind']} {obj['metadata']['name']} was not taken up by the API server"


async def _trouble(api: Api, deployment: JSON) -> str:
    """What the Pods of a Deployment that does not become ready say."""
    metadata = deployment["metadata"]
    pods = await _pods(api, deployment)
    said = [f"  {pod['metadata']['name']}: {_pod_trouble(pod)}" for pod in pods] or ["  it has no Pods"]
    return "\n".join((f"Deployment {metadata['name']}.{metadata['namespace']} is not ready:", *said))


def _pod_trouble(pod: JSON) -> str:
    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting")
        if waiting:
            return f"{one['name']} waits: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip()
    not_ready = [one["type"] for one in status.get("conditions") or () if one.get("status") == "False"]
    return f"{status.get('phase', 'unknown')}{', not ' + ', '.join(not_ready) if not_ready else ''}"


_PRUNED: tuple[Resource, ...] = (
    WELL_KNOWN.mutating_webhooks,
    WELL_KNOWN.validating_webhooks,
    resource_of("autoscaling/v2", "HorizontalPodAutoscaler"),
    resource_of("policy/v1", "PodDisruptionBudget"),
    WELL_KNOWN.deployments,
    WELL_KNOWN.services,
    WELL_KNOWN.configmaps,
    WELL_KNOWN.secrets,
    WELL_KNOWN.serviceaccounts,
    resource_of("rbac.authorization.k8s.io/v1", "RoleBinding"),
    resource_of("rbac.authorization.k8s.io/v1", "Role"),
    resource_of("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    resource_of("rbac.authorization.k8s.io/v1", "ClusterRole"),
    WELL_KNOWN.crds,
)
"""In this order: webhooks first, so that they refuse nothing any more; definitions last, with all that was defined."""
_AT_RUN_TIME = (
    (WELL_KNOWN.configmaps, "istio-ca-root-cert"),
    (WELL_KNOWN.configmaps, "istio-ca-issued"),
    (WELL_KNOWN.secrets, "istio-ca-secret"),
    (WELL_KNOWN.secrets, "istio-ca-in-force"),
)


async def uninstall(api: Api, say: Say, *, dry_run: bool = False, timeout: float = 60.0) -> None:
    """Remove every installation (`--purge`): labelled objects, definitions with their objects, what istiod made.

    The namespace stays, as with Istio. Raises ApiError.
    """
    for resource in _PRUNED:
        for obj in await _labelled(api, resource):
            await _remove(api, resource, obj, say, dry_run)
        if resource is WELL_KNOWN.deployments and not dry_run:
            await _until_gone(api, WELL_KNOWN.pods, Selector(labels=f"app={ISTIOD}"), timeout)
    for resource, name in _AT_RUN_TIME:
        for obj in (await api.list(resource, selector=Selector(fields=f"metadata.name={name}"))).items:
            await _remove(api, resource, obj, say, dry_run)
    if not dry_run:
        await _until_gone(api, WELL_KNOWN.crds, Selector(labels=COMPONENT), timeout)
    say("✔ Uninstall complete")


async def _labelled(api: Api, resource: Resource) -> list[JSON]:
    try:
        return (await api.list(resource, selector=Selector(labels=COMPONENT))).items
    except NotFound:
        return []  # a kind that this cluster does not have


async def _remove(api: Api, resource: Resource, obj: JSON, say: Say, dry_run: bool) -> None:
    metadata = obj["metadata"]
    if not dry_run:
        try:
            await api.delete(resource, metadata["name"], metadata.get("namespace"), propagation="Background")
        except NotFound:
            return
    where = f".{metadata['namespace']}" if metadata.get("namespace") else ""
    say(f"  Removed {resource.api_version}, Kind={resource.kind}/{metadata['name']}{where}.")


async def _until_gone(api: Api, resource: Resource, selector: Selector, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while (await api.list(resource, selector=selector)).items:
        if time.monotonic() > deadline:
            raise ApiError(0, "Timeout", f"{resource.plural} ({selector.labels}) are still there after {timeout:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
