"""What the API server asks the node on `run/node.sock`: logs, exec, attach, port-forward, stats.

Channels of exec and attach: https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/
(TranslateStreamCloseWebsocketRequests): subprotocol v5.channel.k8s.io.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from mizzen.embedded.node import logfiles, streams
from mizzen.embedded.node.facts import kinds
from mizzen.embedded.node.live import Live
from mizzen.embedded.node.parts import Parts
from mizzen.embedded.node.pod import PodWorker
from mizzen.embedded.node.streams import REFUSAL
from mizzen.embedded.node.usage import pod_usage

if TYPE_CHECKING:
    from mizzen.embedded.node.app import Workers

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


async def serve(parts: Parts, workers: Workers) -> None:
    """Until cancelled."""
    app = web.Application(middlewares=[_with_reason])
    service = NodeServer(workers)
    app.router.add_get("/logs/{namespace}/{pod}/{container}", service.logs)
    app.router.add_get("/exec/{namespace}/{pod}/{container}", service.exec)
    app.router.add_get("/attach/{namespace}/{pod}/{container}", service.attach)
    app.router.add_get("/portforward/{namespace}/{pod}", service.port_forward)
    app.router.add_get("/stats", service.stats)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    path = parts.paths.node_socket
    path.unlink(missing_ok=True)
    try:
        await web.UnixSite(runner, str(path)).start()
        path.chmod(0o600)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


@web.middleware
async def _with_reason(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What asks for a WebSocket gets to see the headers of a refusal alone."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        refusal.headers[REFUSAL] = " ".join((refusal.text or "").split())
        raise


def flag(request: web.Request, name: str) -> bool:
    """A boolean as Go's ParseBool reads it; a bare `?follow` counts as true."""
    value = request.query.get(name)
    return value is not None and (value == "" or value in _TRUE)


class NodeServer:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def _worker(self, request: web.Request) -> PodWorker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._workers.find(namespace, name)
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{namespace}/{name}" is not on this node')
        return worker

    def _live(self, request: web.Request) -> Live:
        worker, name = self._worker(request), request.match_info["container"]
        if name not in kinds(worker.pod):
            raise web.HTTPNotFound(text=f"container {name} is not valid for pod {worker.pod['metadata']['name']}")
        live = worker.live.get(name)
        if live is None or live.exited.done():
            raise web.HTTPBadRequest(text=f'container not found ("{name}"): it is not running')
        return live

    async def logs(self, request: web.Request) -> web.StreamResponse:
        worker, name = self._worker(request), request.match_info["container"]
        path, live = _log_of(worker, name, previous=flag(request, "previous"))
        query = _query(request)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for chunk in logfiles.read(path, live, query):
                await response.write(chunk)
            await response.write_eof()
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        live = self._live(request)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command for the container")
        wanted = streams.Wanted(*(flag(request, name) for name in ("stdin", "stdout", "stderr", "tty")))
        socket = web.WebSocketResponse(protocols=(streams.PROTOCOL,), max_msg_size=0)
        await socket.prepare(request)
        await streams.execute(socket, live, command, wanted)
        return socket

    async def attach(self, request: web.Request) -> web.StreamResponse:
        live = self._live(request)
        wanted = streams.Wanted(*(flag(request, name) for name in ("stdin", "stdout", "stderr", "tty")))
        socket = web.WebSocketResponse(protocols=(streams.PROTOCOL,), max_msg_size=0)
        await socket.prepare(request)
        await streams.attach(socket, live, wanted)
        return socket

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        port = request.query.get("port", "")
        if not (port.isdecimal() and 0 < int(port) < 65536) or not worker.facts.address:
            raise web.HTTPBadRequest(text="port-forward needs ?port=N and a Pod that has an address")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await streams.forward(socket, worker.sandbox.pid, int(port))
        return socket

    async def stats(self, request: web.Request) -> web.Response:
        pods = [pod_usage(worker.pod, worker.live) for worker in self._workers.all()]
        return web.json_response({"pods": pods})


def _log_of(worker: PodWorker, name: str, *, previous: bool) -> tuple[Path, logfiles.LogFile | None]:
    if name not in kinds(worker.pod):
        raise web.HTTPNotFound(text=f"container {name} is not valid for pod {worker.pod['metadata']['name']}")
    pod_name, known, live = worker.pod["metadata"]["name"], worker.known(name), worker.live.get(name)
    number = known.restarts - (1 if previous else 0)
    path = worker.log_path(name, number)
    if previous and number < 0:
        raise web.HTTPBadRequest(text=f'previous terminated container "{name}" in pod "{pod_name}" not found')
    if not path.exists():
        why = getattr(known.state, "reason", "") or "not started yet"
        raise web.HTTPBadRequest(text=f'container "{name}" in pod "{pod_name}" is waiting to start: {why}')
    return path, (None if previous or not live else live.log)


def _query(request: web.Request) -> logfiles.LogQuery:
    query = request.query
    try:
        since = None
        if seconds := query.get("sinceSeconds"):
            since = max(time.time_ns() - int(seconds) * 10**9, 0)
        elif moment := query.get("sinceTime"):
            since = max(int(datetime.fromisoformat(moment).timestamp() * 10**9), 0)
        return logfiles.LogQuery(
            follow=flag(request, "follow"),
            tail=int(query["tailLines"]) if "tailLines" in query else None,
            since=since,
            timestamps=flag(request, "timestamps"),
            limit=int(query["limitBytes"]) if "limitBytes" in query else None,
        )
    except (ValueError, OverflowError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error
