"""istiod's HTTP: webhooks over TLS, and readiness, version, metrics and debug in plain text."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from mizzen.controlplane.admission import BadReview, answered
from mizzen.kube.authorities import unread

with unread():
    from aiohttp import web
    from aiohttp.http_exceptions import HttpProcessingError

JSON: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[JSON], JSON]
Page: TypeAlias = Callable[[Mapping[str, str]], tuple[str, str]]
"""Query to content type and text. Raises LookupError for what is not there."""

_LARGEST_REVIEW = 8 << 20


def _is_ours(record: logging.LogRecord) -> bool:
    """What is no HTTP was answered 400: whoever sends it shall not fill the log with it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def webhook_app(answers: Mapping[str, Answer]) -> web.Application:
    """`answers` by path: `/inject`, `/validate`."""
    app = web.Application(client_max_size=_LARGEST_REVIEW)
    for path, answer in answers.items():
        app.router.add_post(path, _review(answer))
    return app


def _review(answer: Answer) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(answered(await request.json(), answer))
        except (BadReview, json.JSONDecodeError) as error:
            return web.Response(status=400, text=f"not an AdmissionReview: {error}\n")

    return handle


def pages_app(pages: Mapping[str, Page]) -> web.Application:
    app = web.Application()
    for path, page in pages.items():
        app.router.add_get(path, _page(page, local=path.startswith("/debug/")))
    return app


def _page(page: Page, *, local: bool) -> Callable[[web.Request], Any]:
    """`local` pages tell of everybody's configuration: only for callers on istiod's loopback, as port-forwards are."""

    async def handle(request: web.Request) -> web.Response:
        if local and request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="only from istiod's own loopback: use a port-forward\n")
        try:
            content_type, text = page(request.query)
        except LookupError as error:
            return web.Response(status=404, text=f"{error.args[0] if error.args else error}\n")
        return web.Response(text=text, content_type=content_type)

    return handle


def readiness_app(ready: Callable[[], str]) -> web.Application:
    """`ready()` gives "" when ready, else what is missing."""

    async def handle(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(status=503 if missing else 200, text=f"{missing or 'ok'}\n")

    app = web.Application()
    app.router.add_get("/ready", handle)
    return app


async def serve(app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Raises OSError when the address is taken. `cleanup()` of the result ends it."""
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    await site.start()
    return runner


def port_of(runner: web.AppRunner) -> int:
    """The port that was bound, for port 0."""
    return int(runner.addresses[0][1])
