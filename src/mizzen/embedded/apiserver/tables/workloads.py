"""Columns of what makes Pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs."""

from __future__ import annotations

from datetime import datetime

from mizzen.embedded.apiserver.tables.cells import (
    NAME,
    NONE,
    Column,
    age,
    at,
    containers,
    count,
    duration,
    labels,
    number,
    parse_time,
    selector,
    text,
)
from mizzen.kube.api import JSON

AGE = Column("Age", lambda obj, now: age(obj["metadata"].get("creationTimestamp"), now))
_CONTAINERS = text("Containers", lambda obj: containers(at(obj, "spec.template.spec"))[0], priority=1)
_IMAGES = text("Images", lambda obj: containers(at(obj, "spec.template.spec"))[1], priority=1)
_SELECTOR = text("Selector", lambda obj: selector(at(obj, "spec.selector")), priority=1)
_TEMPLATE = (_CONTAINERS, _IMAGES, _SELECTOR)


def _counted(name: str, path: str) -> Column:
    return number(name, lambda obj: count(obj, path))


def _of_wanted(path: str) -> Column:
    return text("Ready", lambda obj: f"{count(obj, path)}/{count(obj, 'spec.replicas')}")


def _job_status(job: JSON) -> str:
    true = {each["type"] for each in at(job, "status.conditions") or () if each["status"] == "True"}
    if "Complete" in true:
        return "Complete"
    if "Failed" in true:
        return "Failed"
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition in true:
            return condition
    return "Running"


def _completions(job: JSON) -> str:
    succeeded, wanted = count(job, "status.succeeded"), at(job, "spec.completions")
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    parallel = count(job, "spec.parallelism")
    return f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"


def _job_duration(job: JSON, now: datetime) -> str:
    start, end = parse_time(at(job, "status.startTime")), parse_time(at(job, "status.completionTime"))
    return duration(((end or now) - start).total_seconds()) if start else ""


def _targets(autoscaler: JSON) -> str:
    """Nothing is measured for an autoscaler here. Of several metrics two are shown."""
    of_v1 = at(autoscaler, "spec.targetCPUUtilizationPercentage")
    cpu = [f"cpu: <unknown>/{of_v1}%"] if of_v1 is not None else []
    shown = [*cpu, *(_target(each) for each in at(autoscaler, "spec.metrics") or ())]
    more = [f"{len(shown) - 2} more..."] if len(shown) > 2 else []
    return ", ".join(shown[:2]) + "".join(f" + {each}" for each in more) if shown else NONE


def _target(metric: JSON) -> str:
    if metric.get("type") != "Resource":
        return "<unknown>"
    target = at(metric, "resource.target") or {}
    utilization = f"{target['averageUtilization']}%" if target.get("averageUtilization") is not None else "<auto>"
    return f"{metric['resource']['name']}: <unknown>/{target.get('averageValue') or utilization}"


def _last_schedule(job: JSON, now: datetime) -> str:
    last = at(job, "status.lastScheduleTime")
    return age(last, now) if last else NONE


_JOB_SPEC = "spec.jobTemplate.spec"

WORKLOADS: dict[str, tuple[Column, ...]] = {
    "deployments.apps": (
        NAME,
        _of_wanted("status.readyReplicas"),
        _counted("Up-to-date", "status.updatedReplicas"),
        _counted("Available", "status.availableReplicas"),
        AGE,
        *_TEMPLATE,
    ),
    "replicasets.apps": (
        NAME,
        _counted("Desired", "spec.replicas"),
        _counted("Current", "status.replicas"),
        _counted("Ready", "status.readyReplicas"),
        AGE,
        *_TEMPLATE,
    ),
    "replicationcontrollers": (
        NAME,
        _counted("Desired", "spec.replicas"),
        _counted("Current", "status.replicas"),
        _counted("Ready", "status.readyReplicas"),
        AGE,
        _CONTAINERS,
        _IMAGES,
        text("Selector", lambda obj: labels(at(obj, "spec.selector")), priority=1),
    ),
    "statefulsets.apps": (NAME, _of_wanted("status.readyReplicas"), AGE, _CONTAINERS, _IMAGES),
    "daemonsets.apps": (
        NAME,
        _counted("Desired", "status.desiredNumberScheduled"),
        _counted("Current", "status.currentNumberScheduled"),
        _counted("Ready", "status.numberReady"),
        _counted("Up-to-date", "status.updatedNumberScheduled"),
        _counted("Available", "status.numberAvailable"),
        text("Node Selector", lambda obj: labels(at(obj, "spec.template.spec.nodeSelector"))),
        AGE,
        *_TEMPLATE,
    ),
    "jobs.batch": (
        NAME,
        text("Status", _job_status),
        text("Completions", _completions),
        Column("Duration", _job_duration),
        AGE,
        *_TEMPLATE,
    ),
    "cronjobs.batch": (
        NAME,
        text("Schedule", lambda obj: at(obj, "spec.schedule")),
        text("Timezone", lambda obj: at(obj, "spec.timeZone") or NONE),
        text("Suspend", lambda obj: str(bool(at(obj, "spec.suspend")))),
        number("Active", lambda obj: count(obj, "status.active")),
        Column("Last Schedule", _last_schedule),
        AGE,
        text("Containers", lambda obj: containers(at(obj, f"{_JOB_SPEC}.template.spec"))[0], priority=1),
        text("Images", lambda obj: containers(at(obj, f"{_JOB_SPEC}.template.spec"))[1], priority=1),
        text("Selector", lambda obj: selector(at(obj, f"{_JOB_SPEC}.selector")), priority=1),
    ),
    "controllerrevisions.apps": (
        NAME,
        text("Controller", lambda obj: _controller(obj)),
        number("Revision", lambda obj: obj.get("revision", 0)),
        AGE,
    ),
    "horizontalpodautoscalers.autoscaling": (
        NAME,
        text("Reference", lambda obj: f"{at(obj, 'spec.scaleTargetRef.kind')}/{at(obj, 'spec.scaleTargetRef.name')}"),
        text("Targets", _targets),
        text("MinPods", lambda obj: str(at(obj, "spec.minReplicas") or "<unset>")),
        number("MaxPods", lambda obj: count(obj, "spec.maxReplicas")),
        number("Replicas", lambda obj: count(obj, "status.currentReplicas")),
        AGE,
    ),
    "poddisruptionbudgets.policy": (
        NAME,
        text("Min Available", lambda obj: _or_not_applicable(at(obj, "spec.minAvailable"))),
        text("Max Unavailable", lambda obj: _or_not_applicable(at(obj, "spec.maxUnavailable"))),
        number("Allowed Disruptions", lambda obj: count(obj, "status.disruptionsAllowed")),
        AGE,
    ),
}


def _controller(obj: JSON) -> str:
    owners = [each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")]
    if not owners:
        return NONE
    group = owners[0]["apiVersion"].rpartition("/")[0]
    kind = owners[0]["kind"].lower()
    return f"{kind}.{group}/{owners[0]['name']}" if group else f"{kind}/{owners[0]['name']}"


def _or_not_applicable(value: object) -> str:
    return "N/A" if value is None else str(value)
