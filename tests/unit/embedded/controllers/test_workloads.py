"""Deployment, ReplicaSet, StatefulSet, DaemonSet and Job, as a user sees them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mizzen.embedded.controllers.deployment_status import deployment_status
from mizzen.kube import api as kube

if TYPE_CHECKING:
    from .conftest import World

KNOWN = kube.WELL_KNOWN
DEPLOYMENTS, SETS, PODS = KNOWN.deployments, KNOWN.replicasets, KNOWN.pods


def template(image: str = "app:1", **metadata: Any) -> kube.JSON:
    return {"metadata": {"labels": {"app": "web"}, **metadata}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(replicas: int = 3, image: str = "app:1", **spec: Any) -> kube.JSON:
    selector = {"matchLabels": {"app": "web"}}
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": selector, "template": template(image), **spec},
    }


def images(world: World) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in world.pods())


def is_rolled_out(world: World, replicas: int) -> bool:
    """What `kubectl rollout status` waits for."""
    found = world.one(DEPLOYMENTS, "web")
    status = found.get("status", {})
    return status.get("observedGeneration") == found["metadata"]["generation"] and all(
        status.get(key, 0) == replicas for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    )


async def test_pods_exist_when_the_create_is_answered(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(3))
    assert len(world.pods()) == 3
    replica_set = world.api.all(SETS)[0]
    hashed = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"web-{hashed}"
    assert replica_set["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hashed}
    for pod in world.pods():
        assert pod["metadata"]["name"].startswith(f"web-{hashed}-")
        assert pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": hashed}
        owner = pod["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", f"web-{hashed}", True)


async def test_no_pod_is_made_twice_when_the_cache_is_behind(world: World) -> None:
    world.api.watch_delay = 0.003
    for number in range(6):
        made = deployment(4) | {"metadata": {"name": f"web{number}"}}
        made["spec"]["selector"] = {"matchLabels": {"app": f"web{number}"}}
        made["spec"]["template"]["metadata"]["labels"] = {"app": f"web{number}"}
        await world.apply(DEPLOYMENTS, made)
    await world.until(lambda: sum("podIP" in pod.get("status", {}) for pod in world.pods()) == 24, 10)
    await world.idle()
    creates = [entry for entry in world.api.journal if entry[:2] == ("create", "pods")]
    assert len(creates) == 24


async def test_status_and_conditions(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    await world.idle()
    conditions = {each["type"]: each for each in world.one(DEPLOYMENTS, "web")["status"]["conditions"]}
    assert (conditions["Available"]["status"], conditions["Available"]["reason"]) == (
        "True",
        "MinimumReplicasAvailable",
    )
    assert conditions["Progressing"]["reason"] == "NewReplicaSetAvailable"
    assert world.one(DEPLOYMENTS, "web")["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}


async def test_a_cluster_at_rest_writes_nothing(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    await world.idle()
    before = len(world.api.journal)
    world.api.end_watches()
    await asyncio.sleep(0.2)
    assert world.api.journal[before:] == []


async def test_scale_up_and_down(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(1))
    await world.until(lambda: is_rolled_out(world, 1))
    for replicas in (4, 2, 0):
        await world.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": replicas}}, "shop")
        await world.until(lambda wanted=replicas: is_rolled_out(world, wanted) and len(world.pods()) == wanted)  # type: ignore[misc]
    assert len(world.api.all(SETS)) == 1


async def test_rolling_update_keeps_within_its_limits(world: World) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await world.apply(DEPLOYMENTS, deployment(3, strategy=strategy))
    await world.until(lambda: is_rolled_out(world, 3))
    seen: list[tuple[int, int]] = []

    async def observe() -> None:
        async for event in world.api.watch(PODS):
            if event.type != "BOOKMARK":
                alive = world.pods()
                ready = sum(pod.get("status", {}).get("podIP") is not None for pod in alive)
                seen.append((len(alive), ready))

    observer = asyncio.create_task(observe())
    await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template("app:2")}}, "shop")
    await world.until(lambda: is_rolled_out(world, 3) and images(world) == ["app:2"] * 3)
    observer.cancel()
    await asyncio.gather(observer, return_exceptions=True)
    assert max(total for total, _ in seen) <= 4
    assert min(ready for _, ready in seen) >= 3


async def test_a_rollout_that_never_becomes_ready_leaves_the_old_pods_alone(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(4))
    await world.until(lambda: is_rolled_out(world, 4))
    world.will_be_ready = lambda pod: pod["spec"]["containers"][0]["image"] == "app:1"
    await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template("app:bad")}}, "shop")
    await world.until(lambda: images(world).count("app:bad") == 2)
    await world.idle()
    assert images(world) == ["app:1"] * 3 + ["app:bad"] * 2  # 25% each way
    world.will_be_ready = lambda pod: True
    await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template("app:1")}}, "shop")
    await world.until(lambda: is_rolled_out(world, 4) and images(world) == ["app:1"] * 4)


def test_progress_deadline() -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    asked = deployment(1, progressDeadlineSeconds=60)
    asked["metadata"] |= {"generation": 1, "namespace": "shop", "uid": "u", "resourceVersion": "1"}
    new = {"metadata": {"name": "web-1"}, "spec": {"replicas": 1}, "status": {"replicas": 1}}

    def reason(seconds: float) -> str:
        asked["status"] = deployment_status(asked, new, [], begun + timedelta(seconds=seconds))
        return {each["type"]: each["reason"] for each in asked["status"]["conditions"]}["Progressing"]

    assert reason(0) == "ReplicaSetUpdated"
    assert reason(59) == "ReplicaSetUpdated"
    assert reason(61) == "ProgressDeadlineExceeded"
    new["status"] |= {"readyReplicas": 1, "availableReplicas": 1}
    assert reason(62) == "NewReplicaSetAvailable"


async def test_recreate_waits_until_the_old_pods_are_gone(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2, strategy={"type": "Recreate"}))
    await world.until(lambda: is_rolled_out(world, 2))
    world.confirms_deletion = False
    await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template("app:2")}}, "shop")
    await world.until(lambda: not world.pods())
    await world.idle()
    assert {pod["spec"]["containers"][0]["image"] for pod in world.api.all(PODS)} == {"app:1"}
    for pod in world.api.all(PODS):
        await world.api.delete(PODS, pod["metadata"]["name"], "shop", grace_seconds=0)
    await world.until(lambda: images(world) == ["app:2"] * 2)


async def test_rollback_takes_the_old_set_again_with_a_new_revision(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(1))
    await world.until(lambda: is_rolled_out(world, 1))
    first = world.api.all(SETS)[0]
    await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template("app:2")}}, "shop")
    await world.until(lambda: is_rolled_out(world, 1) and images(world) == ["app:2"])
    undo = [{"op": "replace", "path": "/spec/template", "value": template("app:1")}]
    await world.api.patch(DEPLOYMENTS, "web", undo, "shop", type="json")
    await world.until(lambda: is_rolled_out(world, 1) and images(world) == ["app:1"])
    await world.idle()
    sets = {each["metadata"]["name"]: each["metadata"]["annotations"] for each in world.api.all(SETS)}
    assert len(sets) == 2
    again = sets[first["metadata"]["name"]]
    assert again["deployment.kubernetes.io/revision"] == "3"
    assert again["deployment.kubernetes.io/revision-history"] == "1"
    annotations = world.one(DEPLOYMENTS, "web")["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"


async def test_old_sets_are_cleaned_up(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(1, revisionHistoryLimit=1))
    for version in range(2, 5):
        await world.api.patch(DEPLOYMENTS, "web", {"spec": {"template": template(f"app:{version}")}}, "shop")
        await world.until(lambda version=version: is_rolled_out(world, 1) and images(world) == [f"app:{version}"])  # type: ignore[misc]
    await world.until(lambda: len(world.api.all(SETS)) == 2)


async def test_pods_that_admission_refuses_are_told_in_conditions_and_made_later(world: World) -> None:
    denied = kube.ApiError(500, "InternalError", 'failed calling webhook "injector"')
    world.api.refuse = lambda verb, resource, obj: denied if (verb, resource) == ("create", PODS) else None
    await world.apply(DEPLOYMENTS, deployment(2))

    def failure() -> str:
        conditions = world.one(DEPLOYMENTS, "web").get("status", {}).get("conditions", [])
        return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), "")

    await world.until(lambda: "injector" in failure())
    await world.until(lambda: any("injector" in event["message"] for event in world.api.all(KNOWN.events)))
    world.api.refuse = lambda verb, resource, obj: None
    await world.until(lambda: is_rolled_out(world, 2) and not failure())


async def test_a_deleted_pod_is_replaced_and_orphans_are_adopted(world: World) -> None:
    await world.apply(DEPLOYMENTS, deployment(2))
    await world.until(lambda: is_rolled_out(world, 2))
    victim = world.pods()[0]
    await world.api.delete(PODS, victim["metadata"]["name"], "shop")
    await world.until(lambda: len(world.pods()) == 2 and victim["metadata"]["name"] not in map(str, names(world)))
    replica_set = world.api.all(SETS)[0]
    orphan = {"metadata": {"name": "stray", "labels": replica_set["spec"]["selector"]["matchLabels"]}, "spec": {}}
    await world.api.create(PODS, orphan, "shop")
    await world.until(lambda: len(world.pods()) == 2 and is_rolled_out(world, 2))
    released = world.pods()[0]["metadata"]["name"]
    await world.api.patch(PODS, released, {"metadata": {"labels": {"app": "debug"}}}, "shop")
    await world.until(lambda: len(world.pods()) == 3)
    await world.until(lambda: not world.one(PODS, released)["metadata"]["ownerReferences"])


def names(world: World) -> list[str]:
    return [pod["metadata"]["name"] for pod in world.pods()]


async def test_stateful_set_in_order_with_stable_names(world: World) -> None:
    ready: set[str] = {"db-0"}
    world.will_be_ready = lambda pod: pod["metadata"]["name"] in ready
    claims = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
    spec = {
        "replicas": 3,
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "volumeClaimTemplates": claims,
    }
    await world.apply(KNOWN.statefulsets, {"metadata": {"name": "db"}, "spec": spec})
    assert names(world) == ["db-0"]
    await world.until(lambda: names(world) == ["db-0", "db-1"])
    await world.idle()
    assert names(world) == ["db-0", "db-1"]
    ready |= {"db-1", "db-2"}
    await world.set_ready(world.one(PODS, "db-1"), True)
    await world.until(lambda: names(world) == ["db-0", "db-1", "db-2"])
    pod = world.one(PODS, "db-1")
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "db")
    assert pod["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}]
    claim = kube.Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
    await world.until(lambda: {each.get("status", {}).get("phase") for each in world.api.all(claim)} == {"Bound"})
    await world.api.patch(KNOWN.statefulsets, "db", {"spec": {"template": template("app:2")}}, "shop")
    await world.until(lambda: images(world) == ["app:2"] * 3)
    await world.until(lambda: world.one(KNOWN.statefulsets, "db")["status"].get("updatedReplicas") == 3)
    await world.api.patch(KNOWN.statefulsets, "db", {"spec": {"replicas": 1}}, "shop")
    await world.until(lambda: names(world) == ["db-0"])
    order = [name for verb, plural, name in world.api.journal if (verb, plural) == ("delete", "pods")]
    assert list(dict.fromkeys(order)) == ["db-2", "db-1", "db-0"]
    await world.until(lambda: has_settled(world.one(KNOWN.statefulsets, "db")["status"]))


def has_settled(status: kube.JSON) -> bool:
    """What `kubectl rollout status statefulset` waits for."""
    return status["currentRevision"] == status["updateRevision"] and status["replicas"] == 1


async def test_daemon_set(world: World) -> None:
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template()}
    await world.apply(KNOWN.daemonsets, {"metadata": {"name": "agent"}, "spec": spec})
    assert len(world.pods()) == 1
    await world.until(lambda: world.one(KNOWN.daemonsets, "agent").get("status", {}).get("numberReady") == 1)
    await world.api.patch(KNOWN.daemonsets, "agent", {"spec": {"template": template("app:2")}}, "shop")
    await world.until(lambda: images(world) == ["app:2"])
    await world.api.create(KNOWN.nodes, {"metadata": {"name": "m"}})
    await world.until(lambda: len(world.pods()) == 2)
    await world.until(lambda: world.one(KNOWN.daemonsets, "agent")["status"]["desiredNumberScheduled"] == 2)


def job(**spec: Any) -> kube.JSON:
    return {"metadata": {"name": "once"}, "spec": {"template": template(), **spec}}


def job_conditions(world: World) -> dict[str, str]:
    conditions = world.one(KNOWN.jobs, "once").get("status", {}).get("conditions", [])
    return {each["type"]: each["reason"] for each in conditions if each["status"] == "True"}


async def test_job_runs_to_completion(world: World) -> None:
    await world.apply(KNOWN.jobs, job(completions=3, parallelism=2))
    assert len(world.pods()) == 2
    done = 0
    while done < 3:
        await world.until(lambda: any(pod.get("status", {}).get("phase") == "Running" for pod in world.pods()))
        running = next(pod for pod in world.pods() if pod.get("status", {}).get("phase") == "Running")
        await world.report(running, phase="Succeeded")
        done += 1
    await world.until(lambda: "Complete" in job_conditions(world))
    await world.idle()
    status = world.one(KNOWN.jobs, "once")["status"]
    assert status["succeeded"] == 3 and status["completionTime"] and "active" not in status
    assert len(world.api.all(PODS)) == 3


async def test_job_gives_up_after_its_backoff_limit(world: World) -> None:
    await world.apply(KNOWN.jobs, job(completions=1, backoffLimit=0))
    await world.until(lambda: world.pods()[0].get("status", {}).get("phase") == "Running")
    await world.report(world.pods()[0], phase="Failed")
    await world.until(lambda: job_conditions(world).get("Failed") == "BackoffLimitExceeded")


async def test_finished_job_expires(world: World) -> None:
    await world.apply(KNOWN.jobs, job(completions=1, ttlSecondsAfterFinished=0))
    await world.until(lambda: world.pods() and world.pods()[0].get("status", {}).get("phase") == "Running")
    await world.report(world.pods()[0], phase="Succeeded")
    await world.until(lambda: not world.api.all(KNOWN.jobs) and not world.pods())


async def test_indexed_job(world: World) -> None:
    await world.apply(KNOWN.jobs, job(completions=2, parallelism=2, completionMode="Indexed"))
    indexes = {pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in world.pods()}
    assert indexes == {"0", "1"}
    assert world.pods()[0]["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
