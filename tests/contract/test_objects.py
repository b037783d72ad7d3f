"""What every `kube.Api` promises about single objects."""

from __future__ import annotations

import asyncio

import pytest

from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Api, Conflict, NotFound, Preconditions, Selector

CONFIG = WELL_KNOWN.configmaps


def config(name: str, labels: dict[str, str] | None = None, **data: str) -> JSON:
    metadata: JSON = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_a_created_object_is_read_back(api: Api, namespace: str) -> None:
    created = await api.create(CONFIG, config("a", x="1"), namespace)
    found = await api.get(CONFIG, "a", namespace)
    assert found["data"] == {"x": "1"}
    assert found["metadata"]["uid"] == created["metadata"]["uid"]
    assert found["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_a_name_is_taken_once(api: Api, namespace: str) -> None:
    await api.create(CONFIG, config("a"), namespace)
    with pytest.raises(AlreadyExists) as refused:
        await api.create(CONFIG, config("a"), namespace)
    assert refused.value.message == 'configmaps "a" already exists'


async def test_what_is_not_there_is_not_found(api: Api, namespace: str) -> None:
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await api.get(CONFIG, "a", namespace)
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await api.delete(CONFIG, "a", namespace)
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await api.patch(CONFIG, "a", {"data": {}}, namespace)


async def test_generate_name_makes_names(api: Api, namespace: str) -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-"}}
    names = {(await api.create(CONFIG, obj, namespace))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


async def test_an_old_version_cannot_replace_a_new_one(api: Api, namespace: str) -> None:
    old = await api.create(CONFIG, config("a", x="1"), namespace)
    new = await api.replace(CONFIG, {**old, "data": {"x": "2"}}, namespace)
    with pytest.raises(Conflict, match="modified"):
        await api.replace(CONFIG, {**old, "data": {"x": "3"}}, namespace)
    assert (await api.get(CONFIG, "a", namespace)) == new


async def test_a_write_that_changes_nothing_keeps_the_version(api: Api, namespace: str) -> None:
    created = await api.create(CONFIG, config("a", x="1"), namespace)
    replaced = await api.replace(CONFIG, created, namespace)
    patched = await api.patch(CONFIG, "a", {"data": {"x": "1"}}, namespace)
    versions = {each["metadata"]["resourceVersion"] for each in (created, replaced, patched)}
    assert len(versions) == 1


async def test_merge_patch_changes_and_removes(api: Api, namespace: str) -> None:
    await api.create(CONFIG, config("a", x="1", y="2"), namespace)
    patched = await api.patch(CONFIG, "a", {"data": {"x": None, "z": "3"}}, namespace)
    assert patched["data"] == {"y": "2", "z": "3"}


async def test_json_patch(api: Api, namespace: str) -> None:
    await api.create(CONFIG, config("a", x="1"), namespace)
    patch = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "replace", "path": "/data/x", "value": "2"}]
    assert (await api.patch(CONFIG, "a", patch, namespace, type="json"))["data"] == {"x": "2"}


async def test_status_and_spec_do_not_mix(api: Api, namespace: str) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    deployments = WELL_KNOWN.deployments
    await api.create(deployments, obj, namespace)
    change = {"spec": {"replicas": 3}, "status": {"replicas": 7}}
    by_status = await api.patch(deployments, "d", change, namespace, subresource="status")
    assert (by_status["spec"]["replicas"], by_status["status"]["replicas"]) == (1, 7)
    assert by_status["metadata"]["generation"] == 1
    change["status"]["replicas"] = 9
    by_main = await api.patch(deployments, "d", change, namespace)
    assert (by_main["spec"]["replicas"], by_main["status"]["replicas"]) == (3, 7)
    assert by_main["metadata"]["generation"] == 2


async def test_finalizers_hold_an_object(api: Api, namespace: str) -> None:
    obj = config("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(CONFIG, obj, namespace)
    await api.delete(CONFIG, "a", namespace)
    held = await api.get(CONFIG, "a", namespace)
    assert held["metadata"]["deletionTimestamp"]
    await api.patch(CONFIG, "a", {"metadata": {"finalizers": None}}, namespace)
    with pytest.raises(NotFound):
        await api.get(CONFIG, "a", namespace)


async def test_preconditions_protect_a_successor(api: Api, namespace: str) -> None:
    first = await api.create(CONFIG, config("a"), namespace)
    await api.delete(CONFIG, "a", namespace)
    await api.create(CONFIG, config("a"), namespace)
    with pytest.raises(Conflict):
        await api.delete(CONFIG, "a", namespace, preconditions=Preconditions(uid=first["metadata"]["uid"]))
    assert await api.get(CONFIG, "a", namespace)


async def test_selectors(api: Api, namespace: str) -> None:
    await api.create(CONFIG, config("a", {"app": "x", "tier": "front"}), namespace)
    await api.create(CONFIG, config("b", {"app": "y"}), namespace)
    await api.create(CONFIG, config("c"), namespace)

    async def names(labels: str = "", fields: str = "") -> list[str]:
        found = await api.list(CONFIG, namespace, Selector(labels, fields))
        return [each["metadata"]["name"] for each in found.items if each["metadata"]["name"] in "abc"]

    assert await names("app=x") == ["a"]
    assert await names("app in (x, y),!tier") == ["b"]
    assert await names("app!=x") == ["b", "c"]
    assert await names("app") == ["a", "b"]
    assert await names("app notin (x)") == ["b", "c"]
    assert await names(fields="metadata.name=b") == ["b"]
    assert await names(fields="metadata.name!=b") == ["a", "c"]


async def test_a_watch_tells_what_happens(api: Api, namespace: str) -> None:
    start = (await api.list(CONFIG, namespace)).resource_version
    await api.create(CONFIG, config("a", x="1"), namespace)
    await api.patch(CONFIG, "a", {"data": {"x": "2"}}, namespace)
    await api.delete(CONFIG, "a", namespace)
    assert await _events(api, namespace, Selector(), start, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_objects_come_into_and_leave_the_view_of_a_watch(api: Api, namespace: str) -> None:
    start = (await api.list(CONFIG, namespace)).resource_version
    await api.create(CONFIG, config("a"), namespace)
    await api.patch(CONFIG, "a", {"metadata": {"labels": {"seen": "yes"}}}, namespace)
    await api.patch(CONFIG, "a", {"metadata": {"labels": {"seen": None}}}, namespace)
    found = await _events(api, namespace, Selector("seen=yes"), start, 2)
    assert found == [("ADDED", "a"), ("DELETED", "a")]


async def _events(api: Api, namespace: str, selector: Selector, start: str, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(5):
        async for event in api.watch(CONFIG, namespace, selector, start):
            if event.type != "BOOKMARK":
                found.append((event.type, event.object["metadata"]["name"]))
            if len(found) == count:
                break
    return found
