"""Which Pods commands ask, and what a Pod that ends meanwhile means."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mizzen.explain import draining
from mizzen.explain.draining import Drained, ask_to_drain, watch_drain
from mizzen.explain.reach import find_pod, find_pods
from mizzen.kube.api import WELL_KNOWN, ApiError, NotFound
from mizzen.kube.http import HttpApi
from mizzen.kube.memory import MemoryApi

WEB = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
}


def pod(name: str, ready: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": {"app": "web"}, "finalizers": ["example.com/stay"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.fixture
async def api() -> MemoryApi:
    """A Deployment of a Pod that is ending but still ready, one that serves, and one that is not ready yet."""
    api = MemoryApi()
    await api.create(WELL_KNOWN.deployments, WEB, "default")
    for one in (pod("web-a", "True"), pod("web-b", "True"), pod("web-c", "False")):
        await api.create(WELL_KNOWN.pods, one, "default")
    await api.delete(WELL_KNOWN.pods, "web-a", "default")
    return api


async def test_a_pod_that_ends_is_not_asked(api: MemoryApi) -> None:
    assert await find_pod(api, "deploy/web", "default") == ("default", "web-b")
    assert await find_pods(api, "deploy/web", "default") == ("default", ["web-b"])
    await api.delete(WELL_KNOWN.pods, "web-b", "default")
    with pytest.raises(NotFound, match="no Pod of deploy/web"):
        await find_pods(api, "deploy/web", "default")


async def test_a_pod_that_ends_meanwhile_has_let_go(api: MemoryApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> bytes:
        raise ApiError(0, "Unreachable", "connect call failed")

    monkeypatch.setattr(draining, "http_get", refused)
    asked = cast("HttpApi", api)
    begun = await ask_to_drain(asked, "default", ["web-a", "gone"])
    assert [(row.pod, row.done) for row in begun] == [("web-a.default", True), ("gone.default", True)]
    under_way = Drained(pod="web-a.default", connections=2, state="asked")
    assert [row.done for row in await watch_drain(asked, [under_way, *begun], 1)] == [True, True, True]
    with pytest.raises(ApiError, match="connect call failed"):
        await ask_to_drain(asked, "default", ["web-b"])
    with pytest.raises(ApiError, match="connect call failed"):
        await watch_drain(asked, [Drained(pod="web-b.default", connections=2, state="asked")], 1)
