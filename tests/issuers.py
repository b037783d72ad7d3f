"""Whoever issues tokens: a web server that tells its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def issuer(answers: dict[str, str | Callable[[], str]]) -> AsyncIterator[str]:
    """Where it is. Answers by path, looked up at every request; one that begins with `->` leads elsewhere."""

    async def answer(request: web.Request) -> web.Response:
        found = answers.get(request.path)
        if found is None:
            raise web.HTTPNotFound
        text = found if isinstance(found, str) else found()
        if text.startswith("->"):
            raise web.HTTPFound(text[2:])
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
