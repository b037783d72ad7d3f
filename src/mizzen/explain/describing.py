"""Gathers what `describe` speaks of: objects from the API server, dumps from proxies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from mizzen.api.core import Service
from mizzen.explain.describe import (
    Description,
    Edge,
    exposed,
    is_meshed,
    peer_authentication,
    pod_description,
    service_description,
    services_of,
)
from mizzen.explain.proxy_config import config_dump
from mizzen.explain.reach import is_ending
from mizzen.explain.snapshots import snapshot as read_snapshot
from mizzen.kube.api import WELL_KNOWN, NotFound, Selector
from mizzen.kube.http import HttpApi
from mizzen.scope.inbound import selecting
from mizzen.scope.services import catalog
from mizzen.scope.snapshot import Snapshot

JSON: TypeAlias = dict[str, Any]
GATEWAYS = Selector(labels="istio=ingressgateway")


class NotOfTheMesh(Exception):
    """There is nothing to describe: a Service without Pods, or without Pods that have a sidecar."""


async def describe_pod(
    api: HttpApi, name: str, namespace: str, *, system: str, unmeshed_is_fine: bool = False
) -> Description:
    """Raises ApiError."""
    pod = await api.get(WELL_KNOWN.pods, name, namespace)
    known = await read_snapshot(api, system)
    services = services_of(known, pod)
    dump = await config_dump(api, namespace, name) if is_meshed(pod) and _runs(pod) else {}
    edges = await _edges(api, known)
    return Description(
        pod=pod_description(pod, unmeshed_is_fine=unmeshed_is_fine),
        services=tuple(service_description(known, one, pod, [pod], dump) for one in services),
        peer_authentication=peer_authentication(known, pod),
        exposed=tuple(exposed(known, services, [pod], edges)),
        gateways_asked=bool(edges),
    )


async def describe_service(api: HttpApi, name: str, namespace: str, *, system: str) -> Description:
    """By the proxy of the first Pod behind it. Raises ApiError and NotOfTheMesh."""
    await api.get(WELL_KNOWN.services, name, namespace)
    known = await read_snapshot(api, system)
    service = known.get(Service, namespace, name)
    if service is None:
        raise NotFound(404, "NotFound", f"Service {name} in namespace {namespace} is gone")
    pods = await _behind(api, service)
    meshed = [pod for pod in pods if is_meshed(pod) and _runs(pod)]
    if not pods:
        raise NotOfTheMesh(f'Service "{name}" has no pods.')
    if not meshed:
        raise NotOfTheMesh(f'Service "{name}" has no Istio pods.  ({len(pods)} pods in service).')
    first = meshed[0]
    dump = await config_dump(api, namespace, first["metadata"]["name"])
    edges = await _edges(api, known)
    return Description(
        services=(service_description(known, service, first, meshed, dump),),
        exposed=tuple(exposed(known, [service], meshed, edges)),
        gateways_asked=bool(edges),
    )


async def _behind(api: HttpApi, service: Service) -> list[JSON]:
    selector = ",".join(f"{key}={value}" for key, value in sorted(service.spec.selector.items()))
    if not selector:
        return []
    found = (await api.list(WELL_KNOWN.pods, service.namespace, Selector(labels=selector))).items
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def _runs(pod: JSON) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running") and not is_ending(pod)


async def _edges(api: HttpApi, known: Snapshot) -> Sequence[Edge]:
    pods = [pod for pod in (await api.list(WELL_KNOWN.pods, None, GATEWAYS)).items if _runs(pod)]
    found = []
    for pod in pods:
        metadata = pod["metadata"]
        own = selecting(catalog(known).by_namespace.get(metadata["namespace"], ()), metadata.get("labels", {}))
        dump = await config_dump(api, metadata["namespace"], metadata["name"])
        found.append(Edge(pod=pod, dump=dump, services=tuple(one.object for one in own)))
    return found
