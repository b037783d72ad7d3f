"""Debug pages are for callers on istiod's own loopback."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp.test_utils import make_mocked_request

from mizzen.controlplane.web import pages_app


def page(_: Mapping[str, str]) -> tuple[str, str]:
    return "text/plain", "everything"


async def status_for(path: str, peer: str) -> int:
    app = pages_app({"/debug/config_dump": page, "/version": page})
    request = make_mocked_request("GET", path, app=app)
    match = await app.router.resolve(request)
    response = await match.handler(request.clone(remote=peer))
    return int(response.status)


async def test_debug_pages_answer_only_on_loopback() -> None:
    assert await status_for("/debug/config_dump", "127.0.0.1") == 200
    assert await status_for("/debug/config_dump", "10.244.0.12") == 403


async def test_the_version_is_no_secret() -> None:
    assert await status_for("/version", "10.244.0.12") == 200
