"""What only the node knows: logs, usage, and connections to Pods. Asked over `run/node.sock`.

The routes are those of docs/decisions/0001-processes-and-protocols.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mizzen.embedded.apiserver import errors, metrics
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import Answer, Request, Response, Stream, reply
from mizzen.kube.api import JSON
from mizzen.kube.authorities import unread

with unread():
    import aiohttp

_LOG_PARAMETERS = ("follow", "previous", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes")
_FLAGS = ("follow", "previous", "timestamps")
_TEXT = "text/plain"
_HOP_HEADERS = frozenset({"connection", "host", "authorization", "content-length", "transfer-encoding", "upgrade"})


class NodeRelay:
    """`socket` may appear later than this: each question opens it anew."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._usage = metrics.UsageRates()

    async def log(self, request: Request, pod: JSON, container: str) -> Answer:
        """The container's log, followed or not. Raises 400 while it has none."""
        _check_log_options(request)
        _check_started(pod, container, request.flag("previous"))
        metadata = pod["metadata"]
        path = f"/logs/{metadata['namespace']}/{metadata['name']}/{container}"
        query = {name: request.parameter(name) for name in _LOG_PARAMETERS if request.parameter(name)}
        query.update({name: "true" for name in _FLAGS if request.flag(name)})
        session, answer = await self._ask(path, query)
        if answer.status != 200:
            text = await answer.text()
            await session.close()
            raise errors.failure(answer.status, "BadRequest" if answer.status == 400 else "InternalError", text)
        return Stream(_chunks(session, answer), _TEXT)

    async def metrics(self, store: Store, request: Request, target: Target) -> Answer:
        """metrics.k8s.io/v1beta1. Raises 503 while the node does not answer."""
        session, answer = await self._ask("/stats", {})
        async with session:
            stats: JSON = await answer.json()
        rates = self._usage.update(stats, datetime.now(UTC))
        return reply(metrics.document(store, request, target, rates))

    async def proxy(self, objects: Objects, request: Request, target: Target) -> Answer:
        """HTTP to a Pod or Service, through the server. Raises 503 when nothing answers there."""
        address, port = proxy_address(objects, target)
        url = f"http://{address}:{port}/{target.rest}"
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_HEADERS}
        session = aiohttp.ClientSession(auto_decompress=False)
        try:
            answer = await session.request(
                request.method, url, params=request.query, data=request.body, headers=headers, allow_redirects=False
            )
            body = await answer.read()
        except aiohttp.ClientError as error:
            raise errors.unavailable(f"error trying to reach service: {error}") from None
        finally:
            await session.close()
        return Response(body, answer.status, answer.headers.get("Content-Type", _TEXT))

    async def _ask(self, path: str, query: dict[str, str]) -> tuple[aiohttp.ClientSession, aiohttp.ClientResponse]:
        connector = aiohttp.UnixConnector(str(self.socket))
        session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, connect=5))
        try:
            return session, await session.get(f"http://node{path}", params=query)
        except (aiohttp.ClientError, OSError) as error:
            await session.close()
            raise errors.unavailable(f"the node does not answer: {error}") from None


async def _chunks(session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with session:
        async for chunk in answer.content.iter_any():
            yield chunk


def _check_log_options(request: Request) -> None:
    for name in ("tailLines", "limitBytes", "sinceSeconds"):
        number = request.number(name)
        if number is not None and number < (0 if name == "tailLines" else 1):
            why = f"must be greater than or equal to {0 if name == 'tailLines' else 1}"
            raise errors.bad_request(f'PodLogOptions "" is invalid: {name}: Invalid value: {number}: {why}')
    if request.parameter("sinceSeconds") and request.parameter("sinceTime"):
        raise errors.bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified")


def _check_started(pod: JSON, container: str, previous: bool) -> None:
    status = pod.get("status") or {}
    found = [
        each
        for part in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for each in status.get(part) or ()
        if each["name"] == container
    ]
    name = pod["metadata"]["name"]
    state: dict[str, Any] = found[0].get("state") or {} if found else {}
    if previous and not (found and found[0].get("lastState", {}).get("terminated")):
        raise errors.bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    if previous or (found and found[0].get("lastState", {}).get("terminated")):
        return
    if not found or "waiting" in state:
        reason = state.get("waiting", {}).get("reason", "ContainerCreating")
        why = "trying and failing to pull image" if reason.endswith(("ImagePull", "ImagePullBackOff")) else reason
        raise errors.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')


def proxy_address(objects: Objects, target: Target) -> tuple[str, int]:
    """Where `[scheme:]name[:port]` of a Pod or Service answers. Raises 404, 503."""
    parts = target.name.split(":")
    name = parts[1] if len(parts) == 3 else parts[0]
    port = parts[-1] if len(parts) > 1 else ""
    obj = objects.entry(target.named(name)).document()
    if target.kind.storage == "services":
        return _service_address(objects.store, obj, port)
    address = (obj.get("status") or {}).get("podIP")
    if not address:
        raise errors.unavailable(f'address not allowed: pod "{name}" has no IP yet')
    return address, _pod_port(obj, port)


def _pod_port(pod: JSON, port: str) -> int:
    """By number or by the name of a container's port; without either, the first one. Raises 400."""
    ports = [each for container in pod["spec"]["containers"] for each in container.get("ports") or ()]
    if port.isdecimal() and 0 < int(port) < 65536:
        return int(port)
    named = [int(each["containerPort"]) for each in ports if port in ("", each.get("name"))]
    if port and not named:
        raise errors.bad_request(f'pod "{pod["metadata"]["name"]}" has no port "{port}"')
    return next(iter(named), 80)


def _service_address(store: Store, service: JSON, port: str) -> tuple[str, int]:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    ports = service["spec"].get("ports") or []
    chosen = [each for each in ports if port in ("", str(each["port"]), each.get("name"))]
    endpoints = store.get(Key("endpoints", namespace, name))
    for subset in (endpoints.document().get("subsets") or ()) if endpoints and chosen else ():
        for each in subset.get("ports") or ():
            if each.get("name", "") == chosen[0].get("name", "") and subset.get("addresses"):
                return subset["addresses"][0]["ip"], each["port"]
    raise errors.unavailable(f'no endpoints available for service "{name}"')
