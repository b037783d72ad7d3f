"""CronJob: a Job now and then.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mizzen.embedded.controllers import cron
from mizzen.embedded.controllers.cluster import Cluster, owners_of_kind
from mizzen.embedded.controllers.jobs import is_over
from mizzen.embedded.controllers.objects import is_deleting, is_true, moment, owner_reference, status, timestamp
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Resource
from mizzen.kube.reflector import Key

CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
JOBS = WELL_KNOWN.jobs
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobs:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("cronjob", self.sync)
        cluster.feed(CRON_JOBS, self.work)
        cluster.feed(JOBS, self.work, owners_of_kind(CRON_JOBS))

    async def sync(self, key: Key) -> float | None:
        owner = self._cluster.get(CRON_JOBS, key)
        if owner is None or is_deleting(owner):
            return None
        now = self._cluster.now()
        await self._clean(owner)
        if owner["spec"].get("suspend"):
            await self._report(owner, None)
            return None
        try:
            due, following = times(owner, now)
        except ValueError as error:
            self._cluster.record(owner, "Warning", "UnparseableSchedule", str(error))
            return None
        await self._report(owner, due if due is not None and await self._begin(owner, due) else None)
        return (following - now).total_seconds() if following is not None else None

    async def _begin(self, owner: JSON, due: datetime) -> bool:
        """Starts the Job of this time, or skips it; False when it must wait for another time."""
        active = [job for job in self._cluster.controlled(JOBS, owner) if not is_over(job)]
        policy = owner["spec"].get("concurrencyPolicy", "Allow")
        if active and policy == "Forbid":
            self._cluster.record(owner, "Normal", "JobAlreadyActive", "Not starting job because prior one runs")
            return False
        for job in active if policy == "Replace" else ():
            await self._cluster.delete(JOBS, job)
        job = job_at(owner, due)
        try:
            await self._cluster.create(JOBS, job, owner["metadata"]["namespace"])
        except AlreadyExists:
            return True  # begun before, but not yet noted in the status
        self._cluster.record(owner, "Normal", "SuccessfulCreate", f"Created job {job['metadata']['name']}")
        return True

    async def _clean(self, owner: JSON) -> None:
        jobs = sorted(self._cluster.controlled(JOBS, owner), key=lambda job: job["metadata"]["creationTimestamp"])
        spec = owner["spec"]
        for type, limit in (
            ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
            ("Failed", spec.get("failedJobsHistoryLimit", 1)),
        ):
            over = [job for job in jobs if is_true(status(job), type) and not is_deleting(job)]
            for job in over[: max(0, len(over) - limit)]:
                await self._cluster.delete(JOBS, job)

    async def _report(self, owner: JSON, begun: datetime | None) -> None:
        jobs = self._cluster.controlled(JOBS, owner)
        before = {key: value for key, value in status(owner).items() if key != "active"}
        active = _references([job for job in jobs if not is_over(job)])
        done = [end for job in jobs if (end := status(job).get("completionTime"))]
        said: JSON = {"active": active} if active else {}
        if begun is not None:
            said["lastScheduleTime"] = timestamp(begun)
        if done:
            said["lastSuccessfulTime"] = max(*done, before.get("lastSuccessfulTime", ""))
        await self._cluster.set_status(CRON_JOBS, owner, {**before, **said})


def _references(jobs: Sequence[JSON]) -> list[JSON]:
    keys = ("name", "namespace", "uid", "resourceVersion")
    return [
        {"apiVersion": "batch/v1", "kind": "Job", **{key: job["metadata"][key] for key in keys}}
        for job in sorted(jobs, key=lambda job: job["metadata"]["name"])
    ]


def times(owner: JSON, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The latest time that is due and was not served yet, and the next one. Raises ValueError."""
    spec = owner["spec"]
    try:
        zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"unknown timeZone {spec['timeZone']!r}") from None
    schedule = cron.parse(spec["schedule"])
    since = moment(status(owner).get("lastScheduleTime") or owner["metadata"]["creationTimestamp"]).astimezone(zone)
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now.astimezone(zone) - timedelta(seconds=deadline))
    due, following = None, schedule.after(since)
    while following is not None and following <= now:
        due, following = following, schedule.after(following)
    return due, following


def job_at(owner: JSON, due: datetime) -> JSON:
    """The Job for one scheduled time; its name says which, so that it is never begun twice."""
    template = owner["spec"]["jobTemplate"]
    asked = template.get("metadata") or {}
    return {
        "metadata": {
            "name": f"{owner['metadata']['name']}-{int(due.timestamp()) // 60}",
            "labels": asked.get("labels") or {},
            "annotations": {**(asked.get("annotations") or {}), SCHEDULED: timestamp(due)},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": template["spec"],
    }
