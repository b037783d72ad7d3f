"""Job: Pods that run to completion.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mizzen.embedded.controllers.batches import in_growing_batches
from mizzen.embedded.controllers.cluster import Cluster, owners_of_kind
from mizzen.embedded.controllers.objects import (
    annotations_of,
    is_deleting,
    is_true,
    labels_of,
    moment,
    status,
    timestamp,
    with_condition,
)
from mizzen.embedded.controllers.pods import is_active, is_ready, pod_from, restarts
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Key

JOBS, PODS = WELL_KNOWN.jobs, WELL_KNOWN.pods
INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 360.0
"""Seconds before a failed Pod is replaced, doubling."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A Job's Pods, counted. A Pod that someone deleted still counts if the status already says so."""

    active: Sequence[JSON]
    succeeded: int
    failed: int
    last_failure: datetime | None


class Jobs:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("job", self.sync)
        cluster.feed(JOBS, self.work)
        cluster.feed(PODS, self.work, owners_of_kind(JOBS))

    async def sync(self, key: Key) -> float | None:
        job = self._cluster.get(JOBS, key)
        if job is None or is_deleting(job):
            return None
        if is_over(job):
            return await self._expire(job)
        pods = self._cluster.controlled(PODS, job)
        counted, now = tally(job, pods), self._cluster.now()
        if verdict := verdict_on(job, counted, now):
            for pod in counted.active:
                await self._cluster.delete(PODS, pod)
            await self._cluster.set_status(JOBS, job, final_status(job, counted, verdict, now))
            return 0.0
        wait = await self._adjust(job, pods, counted, now)
        counted = tally(job, self._cluster.controlled(PODS, job))
        written = await self._cluster.set_status(JOBS, job, running_status(job, counted, now))
        return _soonest(wait, _seconds_to_deadline(written, now))

    async def _adjust(self, job: JSON, pods: Sequence[JSON], counted: Tally, now: datetime) -> float | None:
        """Makes or removes Pods; returns how long to wait after a failure before making more."""
        missing = wanted_active(job, counted) - len(counted.active)
        if missing < 0:
            for pod in sorted(counted.active, key=is_ready)[:-missing]:
                await self._cluster.delete(PODS, pod)
            return None
        wait = backoff(counted, now)
        if missing == 0 or wait > 0:
            return wait or None
        made = [job_pod(job, index) for index in free_indexes(job, pods, missing)]
        failure = await in_growing_batches(made, lambda pod: self._make(job, pod))
        if failure is not None:
            self._cluster.record(job, "Warning", "FailedCreate", f"Error creating: {failure.message}")
            raise failure
        return None

    async def _make(self, job: JSON, pod: JSON) -> None:
        made = await self._cluster.create(PODS, pod, job["metadata"]["namespace"])
        self._cluster.record(job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _expire(self, job: JSON) -> float | None:
        """`ttlSecondsAfterFinished`."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return None
        end = next(each for each in status(job)["conditions"] if each["type"] in ("Complete", "Failed"))
        left = (moment(end["lastTransitionTime"]) + timedelta(seconds=seconds) - self._cluster.now()).total_seconds()
        if left > 0:
            return left
        await self._cluster.delete(JOBS, job)
        return None


def is_over(job: JSON) -> bool:
    return is_true(status(job), "Complete") or is_true(status(job), "Failed")


def tally(job: JSON, pods: Sequence[JSON]) -> Tally:
    before = status(job)
    phases = [status(pod).get("phase") for pod in pods]
    failures = [_finished_at(pod) for pod in pods if status(pod).get("phase") == "Failed"]
    in_place = sum(restarts(pod) for pod in pods if is_active(pod)) if _restarts_in_place(job) else 0
    return Tally(
        active=[pod for pod in pods if is_active(pod)],
        succeeded=max(phases.count("Succeeded"), before.get("succeeded", 0)),
        failed=max(phases.count("Failed") + in_place, before.get("failed", 0)),
        last_failure=max(failures, default=None),
    )


def _restarts_in_place(job: JSON) -> bool:
    return (job["spec"]["template"].get("spec") or {}).get("restartPolicy") == "OnFailure"


def _finished_at(pod: JSON) -> datetime:
    states = [(each.get("state") or {}).get("terminated") or {} for each in status(pod).get("containerStatuses") or ()]
    times = [state["finishedAt"] for state in states if state.get("finishedAt")]
    return moment(max(times, default=pod["metadata"]["creationTimestamp"]))


def backoff(counted: Tally, now: datetime) -> float:
    if counted.last_failure is None or not counted.failed:
        return 0.0
    delay = min(FIRST_BACKOFF * 2 ** (counted.failed - 1), LONGEST_BACKOFF)
    return max(0.0, (counted.last_failure + timedelta(seconds=delay) - now).total_seconds())


def verdict_on(job: JSON, counted: Tally, now: datetime) -> tuple[str, str, str] | None:
    """(condition, reason, message) when the Job is over."""
    spec = job["spec"]
    completions = spec.get("completions")
    enough = counted.succeeded >= completions if completions is not None else counted.succeeded and not counted.active
    if enough:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    if counted.failed > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    left = _seconds_to_deadline(job, now)
    if left is not None and left <= 0:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _seconds_to_deadline(job: JSON, now: datetime) -> float | None:
    seconds, start = job["spec"].get("activeDeadlineSeconds"), status(job).get("startTime")
    if seconds is None or start is None:
        return None
    return (moment(start) + timedelta(seconds=seconds) - now).total_seconds()


def _soonest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def wanted_active(job: JSON, counted: Tally) -> int:
    spec = job["spec"]
    if spec.get("suspend"):
        return 0
    parallelism = spec.get("parallelism", 1)
    if spec.get("completions") is None:
        return len(counted.active) if counted.succeeded else int(parallelism)
    return min(int(parallelism), int(spec["completions"]) - counted.succeeded)


def _is_indexed(job: JSON) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def free_indexes(job: JSON, pods: Sequence[JSON], count: int) -> list[int | None]:
    """For an indexed Job the lowest completion indexes that no Pod works on or has finished."""
    if not _is_indexed(job):
        return [None] * count
    taken = {annotations_of(pod).get(INDEX) for pod in pods if status(pod).get("phase") != "Failed"}
    free = [index for index in range(job["spec"]["completions"]) if str(index) not in taken]
    return list(free[:count])


def job_pod(job: JSON, index: int | None) -> JSON:
    pod = pod_from(job["spec"]["template"], job)
    metadata, name, uid = pod["metadata"], job["metadata"]["name"], job["metadata"]["uid"]
    own = {"job-name": name, "controller-uid": uid}
    metadata["labels"] = {**labels_of(pod), **own, **{f"batch.kubernetes.io/{key}": own[key] for key in own}}
    if index is not None:
        metadata["generateName"] = f"{name}-{index}-"
        metadata["labels"][INDEX] = str(index)
        metadata["annotations"] = {**annotations_of(pod), INDEX: str(index)}
        pod["spec"] |= {"hostname": f"{name}-{index}", "containers": _with_index(pod["spec"].get("containers") or ())}
    return pod


def _with_index(containers: Sequence[JSON]) -> list[JSON]:
    field = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": field}
    return [{**container, "env": [*(container.get("env") or ()), variable]} for container in containers]


def running_status(job: JSON, counted: Tally, now: datetime) -> JSON:
    before, suspended = status(job), bool(job["spec"].get("suspend"))
    answer = _counts(before, counted)
    if not suspended:
        answer.setdefault("startTime", timestamp(now))
    if suspended or before.get("conditions"):
        reason = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
        said = {"type": "Suspended", "status": str(suspended), "reason": reason[0], "message": reason[1]}
        answer["conditions"] = with_condition(before.get("conditions") or (), said, timestamp(now))
    return answer


def final_status(job: JSON, counted: Tally, verdict: tuple[str, str, str], now: datetime) -> JSON:
    type, reason, message = verdict
    answer = _counts(status(job), Tally([], counted.succeeded, counted.failed, None))
    answer.setdefault("startTime", timestamp(now))
    conditions = list(status(job).get("conditions") or ())
    for each in ("SuccessCriteriaMet" if type == "Complete" else "FailureTarget", type):
        said = {"type": each, "status": "True", "reason": reason, "message": message, "lastProbeTime": timestamp(now)}
        conditions = with_condition(conditions, said, timestamp(now))
    done = {"completionTime": timestamp(now)} if type == "Complete" else {}
    return {**answer, **done, "conditions": conditions}


def _counts(before: JSON, counted: Tally) -> JSON:
    counts = {"active": len(counted.active), "succeeded": counted.succeeded, "failed": counted.failed}
    kept = {key: value for key, value in before.items() if key not in (*counts, "ready")}
    said = {name: count for name, count in counts.items() if count}
    return {**kept, **said, "ready": sum(map(is_ready, counted.active)), "uncountedTerminatedPods": {}}
