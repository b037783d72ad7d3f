"""`kube.api.Api` over HTTP: any Kubernetes API server, from outside or from within a Pod."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import msgspec
from yarl import URL

from mizzen.kube.api import (
    DEFAULT_WRITE,
    EVERYTHING,
    JSON,
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    NotFound,
    ObjectList,
    PatchType,
    Preconditions,
    Propagation,
    Resource,
    Selector,
    Unreachable,
    WatchEvent,
    WriteOptions,
)
from mizzen.kube.authorities import unread
from mizzen.kube.config import Target, from_kubeconfig, in_cluster

with unread():
    import aiohttp

PATCH_CONTENT_TYPES: Mapping[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
WATCH_SECONDS = (300, 600)
"""A watch asks to be ended after a time in this range, so that many watches do not end at once."""
CONNECT_TIMEOUT = 10.0
GRACE_SECONDS = 30.0
"""How much longer than it asked for we wait for a watch to be ended."""


class HttpApi:
    """One API server over kept-alive connections. Usable in the event loop of its first call; `close` it there.

    `timeout` bounds one call in seconds; watches and streams are bounded by what they ask of the server.
    """

    def __init__(self, target: Target, *, timeout: float = 30.0, user_agent: str = "mizzen") -> None:
        self.target = target
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT_TIMEOUT))
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(
        cls, path: str | os.PathLike[str] | None = None, context: str | None = None, *, timeout: float = 30.0
    ) -> HttpApi:
        """As kubectl would connect. Raises `config.ConfigError`."""
        return cls(from_kubeconfig(path, context), timeout=timeout)

    @classmethod
    def in_cluster(cls, *, timeout: float = 30.0) -> HttpApi:
        """As the Pod's service account. Raises `config.ConfigError` outside of a Pod."""
        return cls(in_cluster(), timeout=timeout)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> HttpApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JSON:
        return _document(await self._call("GET", resource.path(namespace, name)))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        limit: int | None = None,
    ) -> ObjectList:
        query = {**_selector_query(selector), **({"limit": str(limit)} if limit else {})}
        answer = _document(await self._call("GET", resource.path(namespace), query))
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        metadata = answer.get("metadata") or {}
        return ObjectList(
            items=[{**kind, **item} for item in answer.get("items") or ()],
            resource_version=metadata.get("resourceVersion", ""),
            continue_token=metadata.get("continue", ""),
        )

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - spreads load, hides nothing
        query = {
            **_selector_query(selector),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **({"resourceVersion": resource_version} if resource_version else {}),
        }
        timeout = aiohttp.ClientTimeout(total=seconds + GRACE_SECONDS, sock_connect=CONNECT_TIMEOUT)
        async with self.stream("GET", resource.path(namespace), query, timeout=timeout) as response:
            async for line in _lines(response.content):
                yield _event(line)

    async def create(
        self, resource: Resource, obj: JSON, namespace: str | None = None, options: WriteOptions = DEFAULT_WRITE
    ) -> JSON:
        path = resource.path(namespace or _namespace_of(obj))
        return _document(await self._call("POST", path, _write_query(options), obj))

    async def replace(
        self,
        resource: Resource,
        obj: JSON,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        path = resource.path(namespace or _namespace_of(obj), obj["metadata"]["name"], subresource)
        return _document(await self._call("PUT", path, _write_query(options), obj))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        type: PatchType = "merge",
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        query = _write_query(options)
        if type == "apply":
            query["force"] = "true" if options.force else "false"
        path = resource.path(namespace, name, subresource)
        return _document(await self._call("PATCH", path, query, patch, PATCH_CONTENT_TYPES[type]))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
        preconditions: Preconditions | None = None,
    ) -> JSON:
        body = _delete_options(propagation, grace_seconds, preconditions)
        return _document(await self._call("DELETE", resource.path(namespace, name), body=body))

    async def post_subresource(
        self, resource: Resource, name: str, subresource: str, body: JSON, namespace: str | None = None
    ) -> JSON:
        return _document(await self._call("POST", resource.path(namespace, name, subresource), body=body))

    async def raw(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        return await self._call(method, path, body=body, headers=headers)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        sent = {"Accept": "application/json", **({"Content-Type": content_type} if data is not None else {})}
        async with self.stream(method, path, query, data, {**sent, **(headers or {})}) as response:
            content = await response.read()
        return _decode(content, response.content_type)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response whose body is still to be read. Raises ApiError for any other answer, or none."""
        with _network_errors(self.target.server):
            response = await self._request(method, path, query, data, headers, timeout)
            if response.status == 401:
                # The token may have been rotated or expired; anything else is refused again at once.
                self.target.credentials.refused()
                response.release()
                response = await self._request(method, path, query, data, headers, timeout)
            async with response:
                if response.status >= 400:
                    raise api_error(response.status, await response.read(), f"{method} {path}")
                yield response

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout | None,
    ) -> aiohttp.ClientResponse:
        return await self._open().request(
            method,
            self.url(path, query),
            data=data,
            headers={**await self.target.credentials.headers(), **(headers or {})},
            timeout=timeout or self._timeout,
            proxy=self.target.proxy,
            server_hostname=self.target.server_name,
            allow_redirects=False,
        )

    @asynccontextmanager
    async def websocket(
        self, path: str, query: Mapping[str, str], protocols: tuple[str, ...]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open WebSocket. Raises ApiError when the server does not upgrade."""
        with _network_errors(self.target.server):
            try:
                socket = await self._open().ws_connect(
                    self.url(path, query),
                    protocols=protocols,
                    headers=await self.target.credentials.headers(),
                    proxy=self.target.proxy,
                    server_hostname=self.target.server_name,
                    max_msg_size=0,
                )
            except aiohttp.WSServerHandshakeError as error:
                message = f"GET {path}: {error.message or 'no upgrade to WebSocket'}"
                raise api_error(error.status, b"", message) from error
            async with socket:
                yield socket

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """`path` may carry a query of its own; `query` is added to it."""
        text = self.target.server + path
        if query:
            text += ("&" if "?" in path else "?") + urlencode(query)
        return URL(text, encoded=True)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit on connections: every watch holds one.
            connector = aiohttp.TCPConnector(limit=0, ssl=self.target.tls or True, keepalive_timeout=60)
            headers = {"User-Agent": self._user_agent}
            if not self.target.compression:
                headers["Accept-Encoding"] = "identity"
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=self._timeout)
        return self._session


async def connect(
    path: str | os.PathLike[str] | None = None, context: str | None = None, *, timeout: float = 30.0
) -> HttpApi:
    """The cluster that kubectl would talk to, once it has answered. Raises Unreachable, `config.ConfigError`."""
    api = HttpApi.from_kubeconfig(path, context, timeout=timeout)
    try:
        await api.raw("GET", "/version")
    except BaseException:
        await api.close()
        raise
    return api


class _network_errors:
    """Turns what aiohttp raises into Unreachable."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TimeoutError):
            raise Unreachable(0, "Timeout", f"no answer from {self._server} in time") from error
        if isinstance(error, aiohttp.ClientError | OSError):
            raise Unreachable(0, "Unreachable", f"cannot talk to {self._server}: {error}") from error


_BY_CODE: Mapping[int, Callable[..., ApiError]] = {404: NotFound, 409: Conflict, 410: Expired}


def api_error(code: int, content: bytes, what: str = "") -> ApiError:
    """The error that an unsuccessful response means; `content` is a Status document, or some proxy's page."""
    status = _decode(content, "application/json")
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = content.decode(errors="replace").strip() or f"HTTP {code}"
        status = {"code": code, "message": f"{what}: {text}" if what else text}
    return error_of_status({"code": code, **status})


def error_of_status(status: Mapping[str, Any]) -> ApiError:
    """The ApiError subclass for a Status document."""
    code, reason = int(status.get("code") or 500), status.get("reason") or ""
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_CODE.get(code, ApiError)
    return kind(code, reason, status.get("message") or reason or f"HTTP {code}", status)


def _decode(content: bytes, content_type: str) -> Any:
    if not content:
        return None
    if content_type != "application/json":
        return content.decode(errors="replace")
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content.decode(errors="replace")


def _document(answer: Any) -> JSON:
    if not isinstance(answer, dict):
        raise ApiError(502, "InvalidAnswer", f"the server answered with something other than an object: {answer!r:.80}")
    return answer


def _event(line: bytes) -> WatchEvent:
    document = msgspec.json.decode(line)
    if document["type"] == "ERROR":
        raise error_of_status(document["object"])
    return WatchEvent(document["type"], document["object"])


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: StreamReader's own iteration refuses those over 64 KiB."""
    rest: list[bytes] = []
    async for chunk in content.iter_any():
        *complete, tail = chunk.split(b"\n")
        for line in complete:
            whole = b"".join((*rest, line))
            rest.clear()
            if whole:
                yield whole
        if tail:
            rest.append(tail)


def _namespace_of(obj: JSON) -> str | None:
    return (obj.get("metadata") or {}).get("namespace")


def _selector_query(selector: Selector) -> dict[str, str]:
    pairs = {"labelSelector": selector.labels, "fieldSelector": selector.fields}
    return {key: value for key, value in pairs.items() if value}


def _write_query(options: WriteOptions) -> dict[str, str]:
    return {"fieldManager": options.manager, **({"dryRun": "All"} if options.dry_run else {})}


def _delete_options(
    propagation: Propagation | None, grace_seconds: int | None, preconditions: Preconditions | None
) -> JSON | None:
    wanted = preconditions or Preconditions()
    conditions = {"uid": wanted.uid, "resourceVersion": wanted.resource_version}
    options: JSON = {
        "propagationPolicy": propagation,
        "gracePeriodSeconds": grace_seconds,
        "preconditions": {key: value for key, value in conditions.items() if value} or None,
    }
    said = {key: value for key, value in options.items() if value is not None}
    return {"apiVersion": "v1", "kind": "DeleteOptions", **said} if said else None
