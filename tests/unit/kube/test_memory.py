"""MemoryApi behaves as an API server does, and the informer follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mizzen.kube import api as kube
from mizzen.kube.informer import Informer
from mizzen.kube.memory import MemoryApi
from mizzen.kube.reflector import Change, same_revision
from mizzen.kube.selectors import select_labels, selects

PODS, MAPS, SPACES = kube.WELL_KNOWN.pods, kube.WELL_KNOWN.configmaps, kube.WELL_KNOWN.namespaces


def pod(name: str, **spec: Any) -> kube.JSON:
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


async def test_names_and_conflicts() -> None:
    api = MemoryApi()
    made = await api.create(PODS, pod("a"), "shop")
    assert made["kind"] == "Pod" and made["metadata"]["generation"] == 1
    with pytest.raises(kube.AlreadyExists):
        await api.create(PODS, pod("a"), "shop")
    changed = await api.replace(PODS, made | {"spec": {"nodeName": "n"}})
    assert changed["metadata"]["generation"] == 2
    with pytest.raises(kube.Conflict):
        await api.replace(PODS, made)
    with pytest.raises(kube.NotFound):
        await api.get(PODS, "a", "other")
    generated = await api.create(PODS, {"metadata": {"generateName": "x-"}}, "shop")
    assert generated["metadata"]["name"].startswith("x-")


async def test_status_and_main_resource_do_not_touch_each_other() -> None:
    api = MemoryApi()
    await api.create(PODS, pod("a"), "shop")
    await api.patch(PODS, "a", {"status": {"phase": "Running"}, "spec": {"x": 1}}, "shop", subresource="status")
    stored = await api.patch(PODS, "a", {"status": {"phase": "Failed"}, "spec": {"y": 1}}, "shop")
    assert (stored["spec"], stored["status"], stored["metadata"]["generation"]) == ({"y": 1}, {"phase": "Running"}, 2)


async def test_a_write_that_changes_nothing_keeps_the_revision() -> None:
    api = MemoryApi()
    made = await api.create(PODS, pod("a"), "shop")
    same = await api.patch(PODS, "a", {"metadata": {"labels": {"app": "a"}}}, "shop")
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_json_patch() -> None:
    api = MemoryApi()
    await api.create(PODS, pod("a", items=["x"]), "shop")
    operations = [
        {"op": "test", "path": "/spec/items/0", "value": "x"},
        {"op": "add", "path": "/spec/items/-", "value": "y"},
        {"op": "replace", "path": "/metadata/labels/app", "value": "b"},
        {"op": "remove", "path": "/spec/items/0"},
    ]
    stored = await api.patch(PODS, "a", operations, "shop", type="json")
    assert stored["spec"] == {"items": ["y"]} and stored["metadata"]["labels"] == {"app": "b"}


async def test_a_pod_on_a_node_goes_when_the_node_says_so() -> None:
    api = MemoryApi()
    await api.create(PODS, pod("a", nodeName="n"), "shop")
    going = await api.delete(PODS, "a", "shop")
    assert going["metadata"]["deletionTimestamp"] and going["metadata"]["deletionGracePeriodSeconds"] == 30
    await api.delete(PODS, "a", "shop", grace_seconds=0)
    assert api.all(PODS) == []


async def test_finalizers_hold_an_object() -> None:
    api = MemoryApi()
    await api.create(MAPS, {"metadata": {"name": "m"}}, "shop")
    await api.delete(MAPS, "m", "shop", propagation="Foreground")
    assert api.all(MAPS)[0]["metadata"]["finalizers"] == ["foregroundDeletion"]
    await api.patch(MAPS, "m", {"metadata": {"finalizers": []}}, "shop")
    assert api.all(MAPS) == []


async def test_a_namespace_waits_to_be_finalized() -> None:
    api = MemoryApi()
    await api.create(SPACES, {"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}})
    going = await api.delete(SPACES, "shop")
    assert going["status"]["phase"] == "Terminating"
    await api.replace(SPACES, going | {"spec": {}}, subresource="finalize")
    assert api.all(SPACES) == []


async def test_watch_through_a_selector() -> None:
    api = MemoryApi()
    start = (await api.list(PODS)).resource_version
    await api.create(PODS, pod("a"), "shop")
    await api.create(PODS, pod("b"), "shop")
    await api.patch(PODS, "a", {"metadata": {"labels": {"app": "z"}}}, "shop")
    events = []
    async for event in api.watch(PODS, selector=kube.Selector(labels="app=a"), resource_version=start):
        if event.type == "BOOKMARK":
            break
        events.append((event.type, event.object["metadata"]["name"]))
    assert events == [("ADDED", "a"), ("DELETED", "a")]


async def test_compaction_expires_watches() -> None:
    api = MemoryApi()
    await api.create(PODS, pod("a"), "shop")
    api.compact()
    with pytest.raises(kube.Expired):
        async for _ in api.watch(PODS, resource_version="0"):
            api.compact()
            await api.create(PODS, pod("b"), "shop")
            api.compact()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("app=a", True),
        ("app==a,tier!=web", True),
        ("app in (a, b),!gone", True),
        ("app notin (a)", False),
        ("app", True),
        ("!app", False),
        ("example.com/x=1", False),
    ],
)
def test_label_selectors(labels: str, expected: bool) -> None:
    assert selects(kube.Selector(labels=labels), {"metadata": {"labels": {"app": "a"}}}) is expected


def test_field_selectors() -> None:
    subject = {"metadata": {"name": "a"}, "spec": {"on": True}, "status": {}}
    assert selects(kube.Selector(fields="metadata.name=a,spec.on=true,status.phase!=Failed"), subject)
    assert not selects(kube.Selector(fields="metadata.name!=a"), subject)
    with pytest.raises(ValueError, match="field selector"):
        selects(kube.Selector(fields="metadata.name"), subject)


def test_selectors_in_specs() -> None:
    expressions = [
        {"key": "v", "operator": "In", "values": ["1", "2"]},
        {"key": "x", "operator": "DoesNotExist"},
    ]
    holds = select_labels({"matchLabels": {"app": "a"}, "matchExpressions": expressions})
    assert (
        holds({"app": "a", "v": "1"})
        and not holds({"app": "a", "v": "3"})
        and not holds({"app": "a", "x": "", "v": "1"})
    )
    assert select_labels({})({}) and not select_labels(None)({})


class Following:
    """An informer over a MemoryApi, and what it told."""

    def __init__(self, api: MemoryApi) -> None:
        self.informer = Informer(api, PODS, same=same_revision)
        self.told: list[list[Change]] = []
        self.informer.subscribe(self.take)
        self.task = asyncio.create_task(self.informer.run())

    def take(self, changes: Sequence[Change]) -> None:
        self.told.append(list(changes))

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(2):
            while sorted(name for _, name in self.informer.objects) != sorted(names):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_informer_follows_through_a_restart_and_an_expiry() -> None:
    api = MemoryApi()
    await api.create(PODS, pod("a"), "shop")
    following = Following(api)
    await following.informer.wait_synced()
    await api.create(PODS, pod("b"), "shop")
    await following.until("a", "b")
    api.end_watches()
    await api.delete(PODS, "a", "shop")
    await following.until("b")
    api.end_watches()
    await api.create(PODS, pod("c"), "shop")
    await api.delete(PODS, "b", "shop")
    api.compact()
    await following.until("c")
    await following.stop()
    assert [change.key[1] for change in following.told[-1]] == ["b", "c"]


async def test_informer_waits_for_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    api = MemoryApi()
    real, failures = api.list, 3

    async def away(*arguments: Any, **keywords: Any) -> kube.ObjectList:
        nonlocal failures
        failures -= 1
        if failures > 0:
            raise kube.Unreachable(0, "Unreachable", "away")
        return await real(*arguments, **keywords)

    api.list = away  # type: ignore[method-assign]
    following = Following(api)
    await api.create(PODS, pod("a"), "shop")
    await following.until("a")
    assert following.informer.last_error is None
    assert caplog.text.count("cannot follow pods: away") == 1
    await following.stop()
