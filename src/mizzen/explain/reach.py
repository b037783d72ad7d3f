"""How proxies and istiod are asked: HTTP over a port-forward, so that the API server is all one needs to reach."""

from __future__ import annotations

import http.client
import io
from typing import Any, TypeAlias

from mizzen.kube.api import WELL_KNOWN, Api, ApiError, NotFound, Resource, Selector
from mizzen.kube.conditions import holds
from mizzen.kube.http import HttpApi
from mizzen.kube.streams import port_forward

JSON: TypeAlias = dict[str, Any]

ENVOY_ADMIN_PORT = 15000
_WORKLOADS: dict[str, Resource] = {
    name: resource
    for resource, names in (
        (WELL_KNOWN.deployments, ("deployment", "deployments", "deploy")),
        (WELL_KNOWN.statefulsets, ("statefulset", "statefulsets", "sts")),
        (WELL_KNOWN.daemonsets, ("daemonset", "daemonsets", "ds")),
        (WELL_KNOWN.replicasets, ("replicaset", "replicasets", "rs")),
        (WELL_KNOWN.services, ("service", "services", "svc")),
    )
    for name in names
}
_POD_WORDS = ("", "pod", "pods", "po")


async def http_get(api: HttpApi, namespace: str, pod: str, port: int, path: str) -> bytes:
    """The body of a GET to a port on a Pod's loopback. Raises ApiError, also for an answer that is no success."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    received = bytearray()
    async with port_forward(api, namespace, pod, port) as stream:
        await stream.write(request.encode())
        while part := await stream.read():
            received += part
    response = http.client.HTTPResponse(_Received(bytes(received)))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.HTTPException as error:
        raise ApiError(
            0, "BadAnswer", f"port {port} of Pod {pod}.{namespace} does not speak HTTP: {error!r}"
        ) from error
    if response.status >= 400:
        raise ApiError(response.status, response.reason, body.decode(errors="replace").strip())
    return body


class _Received:
    """The part of a socket that http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


async def find_pod(api: Api, reference: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of the Pod that `[TYPE/]NAME[.NAMESPACE]` means: of a workload, its first ready Pod.

    Raises NotFound.
    """
    kind, _, rest = reference.rpartition("/")
    name, _, own = rest.partition(".")
    where = own or namespace
    if kind.lower() in _POD_WORDS:
        await api.get(WELL_KNOWN.pods, name, where)
        return where, name
    if kind.lower() not in _WORKLOADS:
        raise NotFound(404, "NotFound", f"there are no Pods behind a {kind}; name a pod, deployment or service")
    return where, (await ready_pods(api, kind, name, where))[0]


async def ready_pods(api: Api, kind: str, name: str, namespace: str) -> list[str]:
    """Names of the ready Pods of a workload that are not ending, sorted; at least one. Raises NotFound."""
    workload = await api.get(_WORKLOADS[kind.lower()], name, namespace)
    pods = (await api.list(WELL_KNOWN.pods, namespace, Selector(labels=_selector(workload)))).items
    ready = [pod["metadata"]["name"] for pod in pods if serves(pod)]
    if not ready:
        raise NotFound(404, "NotFound", f"no Pod of {kind}/{name} in namespace {namespace} is ready")
    return sorted(ready)


async def find_pods(api: Api, reference: str, namespace: str) -> tuple[str, list[str]]:
    """As `find_pod`, but all ready Pods of a workload."""
    where, first = await find_pod(api, reference, namespace)
    kind, _, rest = reference.rpartition("/")
    if kind.lower() in _POD_WORDS:
        return where, [first]
    return where, await ready_pods(api, kind, rest.partition(".")[0], where)


async def workloads_named(api: Api, kind: str, namespace: str) -> list[str]:
    """The names of all objects of a kind as `find_pod` takes it; [] for a kind that it does not."""
    resource = WELL_KNOWN.pods if kind.lower() in _POD_WORDS else _WORKLOADS.get(kind.lower())
    found = (await api.list(resource, namespace)).items if resource else ()
    return sorted(one["metadata"]["name"] for one in found)


def _selector(workload: JSON) -> str:
    selector = workload["spec"].get("selector") or {}
    labels = selector.get("matchLabels", {}) if workload["kind"] != "Service" else selector
    return ",".join(f"{key}={value}" for key, value in labels.items())


def serves(pod: JSON) -> bool:
    """Ready, and not ending: an ending Pod stays ready for a while, and whom one asks there may go at any moment."""
    return holds(pod, "Ready") and not is_ending(pod)


def is_ending(pod: JSON) -> bool:
    return "deletionTimestamp" in pod["metadata"]
