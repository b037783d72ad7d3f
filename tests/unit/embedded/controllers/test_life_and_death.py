"""Namespaces, garbage collection and leftovers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from mizzen.embedded.controllers import cron
from mizzen.embedded.controllers.claim_protection import uses
from mizzen.embedded.controllers.ownership import Graph, Keep, Node, OwnerState, Remove, fate
from mizzen.kube import api as kube

from .test_workloads import deployment, is_rolled_out

if TYPE_CHECKING:
    from .conftest import World

KNOWN = kube.WELL_KNOWN
DEPLOYMENTS, SETS, PODS, MAPS = KNOWN.deployments, KNOWN.replicasets, KNOWN.pods, KNOWN.configmaps


async def test_a_namespace_begins_with_an_account_and_the_root_certificate(world: World) -> None:
    await world.apply(KNOWN.namespaces, {"metadata": {"name": "new"}}, None)
    account = await world.api.get(KNOWN.serviceaccounts, "default", "new")
    certificate = await world.api.get(MAPS, "kube-root-ca.crt", "new")
    assert account and certificate["data"] == {"ca.crt": "PEM"}
    await world.api.delete(KNOWN.serviceaccounts, "default", "new")
    await world.api.patch(MAPS, "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "new")
    await world.until(lambda: len(world.api.all(KNOWN.serviceaccounts, "new")) == 1)
    await world.until(lambda: world.api.all(MAPS, "new")[0]["data"] == {"ca.crt": "PEM"})


async def test_a_namespace_ends_when_its_content_has(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    world.confirms_deletion = False
    await world.api.create(MAPS, {"metadata": {"name": "m"}}, "shop")
    await world.api.delete(KNOWN.namespaces, "shop")
    await world.until(lambda: len(world.api.all(PODS)) == 2 and not world.pods())
    await world.idle_reads()
    namespace = world.one(KNOWN.namespaces, "shop")
    assert namespace["status"]["phase"] == "Terminating"
    messages = [each["message"] for each in namespace["status"]["conditions"]]
    assert "Some resources are remaining: Pod has 2 resource instances" in messages
    assert world.api.all(MAPS, "shop") and not world.api.all(DEPLOYMENTS)
    for pod in world.api.all(PODS):
        await world.api.delete(PODS, pod["metadata"]["name"], "shop", grace_seconds=0)
    await world.until(lambda: not world.api.all(KNOWN.namespaces))
    assert not any(world.api.all(each, "shop") for each in (PODS, MAPS, SETS, KNOWN.serviceaccounts))


async def test_background_deletion_takes_the_dependents(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.api.delete(DEPLOYMENTS, "web", "shop", propagation="Background")
    assert not world.api.all(DEPLOYMENTS)
    await world.until(lambda: not world.api.all(SETS) and not world.api.all(PODS))


async def test_foreground_deletion_waits_for_the_dependents(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    world.confirms_deletion = False
    await world.api.delete(DEPLOYMENTS, "web", "shop", propagation="Foreground")
    await world.until(lambda: not world.pods())
    await world.idle()
    assert len(world.api.all(DEPLOYMENTS)) == len(world.api.all(SETS)) == 1
    for pod in world.api.all(PODS):
        await world.api.delete(PODS, pod["metadata"]["name"], "shop", grace_seconds=0)
    await world.until(lambda: not world.api.all(DEPLOYMENTS) and not world.api.all(SETS))


async def test_orphaned_dependents_stay(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    await world.api.delete(DEPLOYMENTS, "web", "shop", propagation="Orphan")
    await world.until(lambda: not world.api.all(DEPLOYMENTS))
    await world.idle()
    assert world.api.all(SETS)[0]["metadata"]["ownerReferences"] == []
    assert len(world.pods()) == 2


async def test_an_owner_that_never_was(world: World) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "no-such"}
    await world.api.create(MAPS, {"metadata": {"name": "m", "ownerReferences": [reference]}}, "shop")
    await world.until(
        lambda: [each["metadata"]["name"] for each in world.api.all(MAPS, "shop")] == ["kube-root-ca.crt"]
    )


async def test_an_owner_of_a_type_that_is_not_served_is_left_alone(world: World) -> None:
    reference = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": "u"}
    await world.api.create(MAPS, {"metadata": {"name": "m", "ownerReferences": [reference]}}, "shop")
    await asyncio.sleep(0.1)
    assert world.one(MAPS, "m")


def node(uid: str, *owners: str, deleting: bool = False, finalizers: tuple[str, ...] = (), blocks: bool = True) -> Node:
    references = tuple({"uid": owner, "blockOwnerDeletion": blocks} for owner in owners)
    return Node(MAPS, ("shop", uid), uid, "1", references, finalizers, deleting)


@pytest.mark.parametrize(
    ("states", "has_dependents", "finalizers", "expected"),
    [
        (["ALIVE"], False, (), Keep()),
        (["ALIVE", "GONE"], False, (), Keep(frozenset({"o1"}))),
        (["ALIVE", "WAITING"], True, (), Keep(frozenset({"o1"}))),
        (["GONE"], True, (), Remove("Background")),
        (["GONE"], True, ("orphan",), Remove("Orphan")),
        (["WAITING"], True, (), Remove("Foreground")),
        (["WAITING"], False, (), Remove("Background")),
        (["GONE", "WAITING"], True, (), Remove("Foreground")),
    ],
)
def test_fate(states: list[str], has_dependents: bool, finalizers: tuple[str, ...], expected: object) -> None:
    owners = {f"o{index}": OwnerState[state] for index, state in enumerate(states)}
    assert fate(node("x", *owners, finalizers=finalizers), owners, has_dependents) == expected


def test_graph_tells_whom_to_look_at() -> None:
    graph = Graph()
    assert graph.put(node("pod", "set")) == ["pod"]
    assert graph.owner_state({"uid": "set"}) is OwnerState.UNKNOWN
    assert graph.put(node("set")) == []  # nobody owns it, and nobody wants it to go
    assert graph.owner_state({"uid": "set"}) is OwnerState.ALIVE
    waiting = node("set", deleting=True, finalizers=("foregroundDeletion",))
    assert graph.put(waiting) == ["set", "pod"]
    assert graph.owner_state({"uid": "set"}) is OwnerState.WAITING
    assert graph.remove("pod") == ["set"]
    assert graph.dependents("set") == []


CLAIMS = kube.Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PROTECTED = ["kubernetes.io/pvc-protection"]


async def test_a_claim_goes_after_the_last_pod_that_uses_it(world: World) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    for name in ("one", "two"):
        await world.api.create(
            PODS, {"metadata": {"name": name}, "spec": {"nodeName": "n", "volumes": volumes}}, "shop"
        )
    await world.api.create(CLAIMS, {"metadata": {"name": "data"}, "spec": {}}, "shop")
    await world.until(lambda: world.one(CLAIMS, "data")["metadata"].get("finalizers") == PROTECTED)
    await world.until(lambda: all((pod.get("status") or {}).get("podIP") for pod in world.pods()))
    await world.report(world.one(PODS, "two"), phase="Succeeded")
    await world.api.delete(CLAIMS, "data", "shop")
    for name in ("one", "two"):  # one that has ended holds it, too: somebody may look into it
        await world.idle()
        assert world.one(CLAIMS, "data")["metadata"]["deletionTimestamp"]
        await world.api.delete(PODS, name, "shop")
    await world.until(lambda: not world.api.all(CLAIMS))


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({}, True),
        ({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "other"}}]}}, False),
        ({"spec": {"nodeName": ""}}, False),
        ({"metadata": {"creationTimestamp": "2026-01-01T00:00:09Z"}}, False),
        ({"metadata": {"creationTimestamp": "2026-01-01T00:00:09Z"}, "status": {"podIP": "10.0.0.1"}}, True),
        ({"spec": {"volumes": [{"name": "ta", "ephemeral": {}}]}}, True),
        ({"metadata": {"uid": "another"}, "spec": {"volumes": [{"name": "ta", "ephemeral": {}}]}}, False),
        (
            {
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:09Z", "deletionGracePeriodSeconds": 0},
                "spec": {"volumes": [{"name": "ta", "ephemeral": {}}]},
            },
            False,
        ),
    ],
    ids=["by name", "another claim", "no node", "too late", "same second", "its own", "another's", "shut down"],
)
def test_which_pods_use_a_claim(pod: dict[str, dict[str, object]], expected: bool) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "da-ta"}}]
    whole: dict[str, dict[str, object]] = {
        "metadata": {"name": "da", "uid": "pod", "creationTimestamp": "2026-01-01T00:00:08Z"},
        "spec": {"nodeName": "n", "volumes": volumes},
    }
    owner = {"kind": "Pod", "name": "da", "uid": "pod", "controller": True}
    deleted = {"deletionTimestamp": "2026-01-01T00:00:09Z", "ownerReferences": [owner]}
    claim = {"metadata": {"name": "da-ta", **deleted}}
    assert uses({key: {**whole.get(key, {}), **pod.get(key, {})} for key in {**whole, **pod}}, claim) is expected


async def test_a_pod_without_a_node_goes_when_deleted(world: World) -> None:
    held = {"metadata": {"name": "p", "finalizers": ["example.com/x"]}, "spec": {"nodeName": "gone-node"}}
    await world.api.create(PODS, held, "shop")
    await world.until(lambda: "deletionTimestamp" in world.one(PODS, "p")["metadata"])
    await world.api.patch(PODS, "p", {"metadata": {"finalizers": []}}, "shop")
    await world.until(lambda: not world.api.all(PODS))


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/5 * * * *", "2026-03-01T10:02", "2026-03-01T10:05"),
        ("0 0 1 * *", "2026-03-01T00:00", "2026-04-01T00:00"),
        ("30 4 * * mon-fri", "2026-03-06T05:00", "2026-03-09T04:30"),
        ("0 12 13 * 5", "2026-03-07T00:00", "2026-03-13T12:00"),
        ("0 0 29 feb *", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("@hourly", "2026-12-31T23:59", "2027-01-01T00:00"),
        ("0 9 * * 7", "2026-03-02T00:00", "2026-03-08T09:00"),
        ("5/20 * * * *", "2026-03-02T00:26", "2026-03-02T00:45"),
    ],
)
def test_cron(schedule: str, after: str, expected: str) -> None:
    assert cron.parse(schedule).after(datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


def test_cron_that_never_comes() -> None:
    assert cron.parse("0 0 31 2 *").after(datetime(2026, 1, 1)) is None


@pytest.mark.parametrize("schedule", ["* * * *", "60 * * * *", "* 5-1 * * *", "often"])
def test_bad_schedules(schedule: str) -> None:
    with pytest.raises(ValueError):
        cron.parse(schedule)


async def test_cron_job_begins_what_is_due_once(world: World) -> None:
    jobs = kube.Resource("batch", "v1", "cronjobs", "CronJob")
    template = {"spec": {"template": {"spec": {"containers": []}}}}
    due = datetime.now(UTC) - timedelta(minutes=1)
    # Once a year, so that it does not come due again while the test runs.
    spec = {"schedule": f"{due.minute} {due.hour} {due.day} {due.month} *", "jobTemplate": template}
    made = await world.api.create(jobs, {"metadata": {"name": "tick"}, "spec": spec | {"suspend": True}}, "shop")
    past = (due - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await world.api.patch(jobs, "tick", {"status": {"lastScheduleTime": past}}, "shop", subresource="status")
    await world.api.patch(jobs, "tick", {"spec": {"suspend": False}}, "shop")
    await world.until(lambda: len(world.api.all(KNOWN.jobs)) == 1)
    await world.idle()
    begun = world.api.all(KNOWN.jobs)
    assert len(begun) == 1 and begun[0]["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert world.one(jobs, "tick")["status"]["active"][0]["name"] == begun[0]["metadata"]["name"]
