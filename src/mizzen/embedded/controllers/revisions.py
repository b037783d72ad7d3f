"""ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, for `kubectl rollout history` and `undo`.

https://kubernetes.io/docs/tasks/manage-daemon/rollback-daemon-set/
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import labels_of, owner_reference
from mizzen.embedded.controllers.rollout import template_hash
from mizzen.kube.api import JSON, AlreadyExists, NotFound, Resource

REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
REVISION_LABEL = "controller-revision-hash"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KEPT = 10


async def keep(cluster: Cluster, owner: JSON, pods: Iterable[JSON]) -> None:
    """Record the owner's present template as its newest revision, and forget those beyond its history limit."""
    known = sorted(cluster.controlled(REVISIONS, owner), key=lambda each: int(each["revision"]))
    name = f"{owner['metadata']['name']}-{template_hash(owner['spec']['template'])}"
    newest = known[-1] if known else None
    if newest is None or newest["metadata"]["name"] != name:
        number = int(newest["revision"]) + 1 if newest else 1
        same = next((each for each in known if each["metadata"]["name"] == name), None)
        await _write(cluster, owner, name, number, same)
        await _forget(cluster, owner, [each for each in known if each is not same], pods)


async def _write(cluster: Cluster, owner: JSON, name: str, number: int, same: JSON | None) -> None:
    """A template that comes back keeps its object and gets the next number."""
    try:
        if same is not None:
            await cluster.patch(REVISIONS, same, {"revision": number})
        else:
            await cluster.create(REVISIONS, revision(owner, name, number), owner["metadata"]["namespace"])
    except (AlreadyExists, NotFound):
        return  # the cache is behind; the change that it lacks wakes the owner again


def revision(owner: JSON, name: str, number: int) -> JSON:
    """`data` is a strategic merge patch that brings the template back: what `rollout undo` sends."""
    template = owner["spec"]["template"]
    annotations = {
        key: value for key, value in (owner["metadata"].get("annotations") or {}).items() if key != _LAST_APPLIED
    }
    labels = {**labels_of(template), REVISION_LABEL: template_hash(template)}
    metadata: JSON = {"name": name, "labels": labels, "ownerReferences": [owner_reference(owner)]}
    if annotations:
        metadata["annotations"] = annotations
    data = {"spec": {"template": {**template, "$patch": "replace"}}}
    return {"metadata": metadata, "data": data, "revision": number}


async def _forget(cluster: Cluster, owner: JSON, older: list[JSON], pods: Iterable[JSON]) -> None:
    """The oldest first, and none that a Pod still runs."""
    limit = owner["spec"].get("revisionHistoryLimit", _KEPT)
    used = {labels_of(pod).get(REVISION_LABEL) for pod in pods}
    unused = [each for each in older if labels_of(each).get(REVISION_LABEL) not in used]
    for each in unused[: max(0, len(unused) - limit)]:
        await cluster.delete(REVISIONS, each)
