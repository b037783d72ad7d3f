"""How a Deployment moves from one template to the next: which set is new, and how large each may be. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mizzen.embedded.controllers.objects import (
    annotations_of,
    owner_reference,
    percentage_of,
    replicas,
    status,
)
from mizzen.kube.api import JSON

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAX}
    | {"deprecated.deployment.rollback.to"}
)
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes, so that no hash spells a word."""
DEFAULT_SHARE = "25%"


def template_hash(template: JSON, collisions: int = 0) -> str:
    """Up to ten characters that stay the same for equal templates."""
    content = msgspec.json.encode([template, collisions], order="deterministic")
    number = int.from_bytes(hashlib.blake2s(content, digest_size=4).digest())
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def find_new(deployment: JSON, sets: Iterable[JSON]) -> JSON | None:
    """The oldest set with the Deployment's present template."""
    wanted = _without_hash(deployment["spec"]["template"])
    return next((each for each in oldest_first(sets) if _without_hash(each["spec"]["template"]) == wanted), None)


def _without_hash(template: JSON) -> JSON:
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    metadata["labels"] = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": metadata}


def oldest_first(sets: Iterable[JSON]) -> list[JSON]:
    return sorted(sets, key=lambda each: (each["metadata"].get("creationTimestamp", ""), each["metadata"]["name"]))


def revision(obj: JSON) -> int:
    text = annotations_of(obj).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a rollout may stray from `replicas` on the way."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        return self.replicas + self.surge

    @property
    def least_available(self) -> int:
        return max(0, self.replicas - self.unavailable)


def limits(deployment: JSON) -> Limits:
    wanted = replicas(deployment)
    if is_recreate(deployment):
        return Limits(wanted, 0, 0)
    asked = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = percentage_of(asked.get("maxSurge", DEFAULT_SHARE), wanted, round_up=True)
    unavailable = percentage_of(asked.get("maxUnavailable", DEFAULT_SHARE), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(wanted, surge, min(unavailable, wanted))


def is_recreate(deployment: JSON) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def size_annotations(allowed: Limits) -> dict[str, str]:
    return {DESIRED: str(allowed.replicas), MAX: str(allowed.most)}


def new_replica_set(deployment: JSON, olds: Sequence[JSON], size: int) -> JSON:
    """The set for the Deployment's present template."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    hash_label = {HASH_LABEL: template_hash(spec["template"], status(deployment).get("collisionCount", 0))}
    template_metadata = spec["template"].get("metadata") or {}
    labels = {**(template_metadata.get("labels") or {}), **hash_label}
    selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {}), **hash_label}}
    copied = {key: value for key, value in annotations_of(deployment).items() if key not in NOT_COPIED}
    number = {REVISION: str(max(map(revision, olds), default=0) + 1)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{hash_label[HASH_LABEL]}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**copied, **number, **size_annotations(limits(deployment))},
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": size,
            "minReadySeconds": spec.get("minReadySeconds", 0),
            "selector": selector,
            "template": {**spec["template"], "metadata": {**template_metadata, "labels": labels}},
        },
    }


def revision_annotations(deployment: JSON, new: JSON, olds: Sequence[JSON]) -> dict[str, str]:
    """What must change in the new set's annotations: it has the highest revision, also after a rollback to it."""
    present = annotations_of(new)
    wanted = {key: value for key, value in annotations_of(deployment).items() if key not in NOT_COPIED}
    highest, own = max(map(revision, olds), default=0), revision(new)
    if own <= highest:
        wanted[REVISION] = str(highest + 1)
        if own:
            past = [*present.get(REVISION_HISTORY, "").split(","), str(own)]
            wanted[REVISION_HISTORY] = ",".join(part for part in past if part)
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def new_size(allowed: Limits, new: int, olds: Sequence[JSON]) -> int:
    """How large the new set may be now, given its present size and the old sets."""
    if new >= allowed.replicas:
        return allowed.replicas
    room = allowed.most - new - sum(map(replicas, olds))
    return new + max(0, min(room, allowed.replicas - new))


def old_sizes(allowed: Limits, new: JSON, olds: Sequence[JSON]) -> dict[str, int]:
    """The sizes of old sets that are to shrink now: Pods that never became available first, then as many as may go."""
    new_unavailable = replicas(new) - status(new).get("availableReplicas", 0)
    surplus = replicas(new) + sum(map(replicas, olds)) - allowed.least_available - new_unavailable
    if surplus <= 0:
        return {}
    sizes = {each["metadata"]["name"]: replicas(each) for each in oldest_first(olds)}
    # A set that was just shrunk may still report Pods it no longer asks for.
    available = {
        each["metadata"]["name"]: min(replicas(each), status(each).get("availableReplicas", 0)) for each in olds
    }
    never_ready = {name: size - available[name] for name, size in sizes.items()}
    surplus -= _shrink(sizes, surplus, never_ready)
    spare = sum(available.values()) + status(new).get("availableReplicas", 0) - allowed.least_available
    _shrink(sizes, min(surplus, spare), dict(sizes))
    return {name: size for each in olds if (size := sizes[name := each["metadata"]["name"]]) < replicas(each)}


def _shrink(sizes: dict[str, int], by: int, removable: Mapping[str, int]) -> int:
    """Takes `by` away in order, no more from each than is removable; returns how much was taken."""
    left = by
    for name in sizes:
        taken = max(0, min(left, removable[name], sizes[name]))
        sizes[name] -= taken
        left -= taken
    return by - left


def proportional_sizes(allowed: Limits, sets: Sequence[JSON]) -> dict[str, int]:
    """New sizes after `replicas` was changed in the middle of a rollout: each set by its share, the newest first.

    https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling
    """
    active = sorted((each for each in sets if replicas(each) > 0), key=revision, reverse=True)
    total = sum(map(replicas, active))
    to_add = (allowed.most if allowed.replicas else 0) - total
    sizes = {}
    left = to_add
    for each in active:
        share = _share(each, allowed, total)
        step = max(min(share, left), 0) if to_add > 0 else min(max(share, left), 0)
        sizes[each["metadata"]["name"]] = replicas(each) + step
        left -= step
    if active and left:
        first = active[0]["metadata"]["name"]
        sizes[first] = max(0, sizes[first] + left)
    return sizes


def _share(each: JSON, allowed: Limits, total: int) -> int:
    if not allowed.replicas:
        return -replicas(each)
    before = int(annotations_of(each).get(MAX, total)) or total
    return round(replicas(each) * allowed.most / before) - replicas(each)


def was_resized(allowed: Limits, sets: Iterable[JSON]) -> bool:
    """Whether some set still follows an earlier `replicas`."""
    active = [each for each in sets if replicas(each) > 0]
    return any(annotations_of(each).get(DESIRED, str(allowed.replicas)) != str(allowed.replicas) for each in active)


def superfluous(deployment: JSON, olds: Iterable[JSON]) -> list[JSON]:
    """Old, empty sets beyond `revisionHistoryLimit`, oldest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    empty = [each for each in olds if _is_empty(each)]
    return sorted(empty, key=revision)[: max(0, len(empty) - limit)]


def _is_empty(each: JSON) -> bool:
    now, metadata = status(each), each["metadata"]
    idle = replicas(each) == 0 and now.get("replicas", 0) == 0 and "deletionTimestamp" not in metadata
    return idle and now.get("observedGeneration", 0) >= metadata.get("generation", 0)
