"""Server-side apply and `metadata.managedFields`: who owns which field.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ - pure: the time is a parameter. `schema` parameters
are a CRD version's `openAPIV3Schema`; without one the packaged definition of the built-in kind counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from mizzen.embedded.apiserver import apply_fields as fields
from mizzen.embedded.apiserver.apply_fields import Path
from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.apiserver.schema_definitions import ANYTHING, Node, kind_schema
from mizzen.embedded.apiserver.schema_structural import as_root
from mizzen.kube.api import JSON, Resource

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT = "ancient-changes"
MAX_UPDATERS = 10

_OF_THE_SERVER = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "generation",
        "selfLink",
        "clusterName",
        "creationTimestamp",
        "managedFields",
        "resourceVersion",
    }
)
_IDENTITY = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",), *(("f:metadata", f"f:{name}") for name in _OF_THE_SERVER)}
)


class ApplyConflict(Exception):
    """Other managers own what the configuration wants to change; answer 409 Conflict with these causes."""

    def __init__(self, message: str, causes: list[Cause]) -> None:
        super().__init__(message)
        self.message = message
        self.causes = causes


class ApplyError(Exception):
    """The configuration cannot be applied at all; answer 400."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes: `managedFields` keeps one entry for each."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """An applier stays the same when it changes to another version of the API."""
        return (self.name, self.operation, "" if self.operation == "Apply" else self.api_version, self.subresource)


class Owned:
    """One entry of managedFields. Paths are decoded only when a write touches them: most writes touch few entries."""

    def __init__(
        self, manager: Manager, time: str, paths: set[Path] | None = None, encoded: JSON | None = None
    ) -> None:
        self.manager = manager
        self.time = time
        self._paths = paths
        self._encoded = encoded

    @property
    def paths(self) -> set[Path]:
        if self._paths is None:
            self._paths = fields.from_fields(self._encoded or {})
        return self._paths

    def touched_by(self, changed: set[Path]) -> bool:
        if self._paths is None:
            return any(fields.names(self._encoded or {}, path) for path in changed)
        return not self._paths.isdisjoint(changed)

    @property
    def encoded(self) -> JSON:
        if self._encoded is None:
            self._encoded = fields.to_fields(self.paths)
        return self._encoded

    def document(self) -> JSON:
        entry: JSON = {
            "manager": self.manager.name,
            "operation": self.manager.operation,
            "apiVersion": self.manager.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.encoded,
        }
        if self.manager.subresource:
            entry["subresource"] = self.manager.subresource
        return entry


Owners = dict[tuple[str, str, str, str], Owned]


def root_schema(resource: Resource, schema: Node | None = None) -> Node:
    if schema is not None:
        return as_root(schema)
    return kind_schema(resource.group, resource.version, resource.kind) or as_root(ANYTHING)


def owners_of(obj: JSON) -> Owners:
    """`metadata.managedFields`, decoded; entries that say nothing (a reset is `[{}]`) are none."""
    found: Owners = {}
    for entry in obj.get("metadata", {}).get("managedFields") or ():
        if not entry.get("operation"):
            continue
        manager = Manager(
            entry.get("manager", ""), entry["operation"], entry.get("apiVersion", ""), entry.get("subresource", "")
        )
        found[manager.identity] = Owned(manager, entry.get("time", ""), encoded=entry.get("fieldsV1") or {})
    return found


def _write_owners(obj: JSON, owners: Owners) -> None:
    kept = [each for each in owners.values() if each.encoded]
    kept = _capped(kept)
    kept.sort(key=lambda each: (each.manager.operation, each.time, each.manager.name))
    if kept:
        obj["metadata"]["managedFields"] = [each.document() for each in kept]
    else:
        obj["metadata"].pop("managedFields", None)


def _capped(owned: list[Owned]) -> list[Owned]:
    """Beyond ten updaters the oldest become one."""
    updaters = sorted((each for each in owned if each.manager.operation == "Update"), key=lambda each: each.time)
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return owned
    oldest = updaters[: excess + 1]
    ancient = Manager(ANCIENT, "Update", oldest[-1].manager.api_version)
    merged = Owned(ancient, oldest[-1].time, {path for each in oldest for path in each.paths})
    return [each for each in owned if each not in oldest] + [merged]


def _ownable(paths: Iterable[Path], reset: tuple[str, ...]) -> set[Path]:
    """Without what identifies the object, and without the fields that this endpoint does not write."""
    doomed = tuple(f"f:{name}" for name in reset)
    return {path for path in paths if path and path not in _IDENTITY and path[0] not in doomed}


def track(
    resource: Resource,
    old: JSON | None,
    new: JSON,
    manager: Manager,
    now: str,
    schema: Node | None = None,
    reset: tuple[str, ...] = (),
) -> None:
    """An ordinary write: `manager` owns what it changed. Writes `new["metadata"]["managedFields"]`.

    What the request itself says in managedFields counts, unless it came through a subresource; `reset` names top-level
    fields that this endpoint leaves alone (`status`).
    """
    before: JSON = old or {}
    asked = new["metadata"].get("managedFields")
    managed = owners_of(new)
    if manager.subresource or (not managed and asked != [{}]):
        managed = owners_of(before)
    changes = fields.compare(root_schema(resource, schema), _without_identity(before), _without_identity(new))
    changed = _ownable(changes.added | changes.modified, reset)
    _disown(managed, manager, changed, changes.removed)
    mine = managed.setdefault(manager.identity, Owned(manager, now, set()))
    paths = (mine.paths - changes.removed) | changed
    if paths != mine.paths:
        managed[manager.identity] = Owned(manager, now, paths)
    _write_owners(new, managed)


def _disown(owners: Owners, manager: Manager, changed: set[Path], removed: set[Path]) -> None:
    """The others lose what was changed over them, or went."""
    lost = changed | removed
    for identity, owned in owners.items():
        if identity != manager.identity and owned.touched_by(lost):
            owners[identity] = Owned(owned.manager, owned.time, owned.paths - lost)


def _without_identity(obj: JSON) -> JSON:
    """What somebody can own of an object: the rest need not be compared."""
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key not in _OF_THE_SERVER}
    return {**{key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}, "metadata": metadata}


def _without_bookkeeping(obj: JSON) -> JSON:
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def apply(
    resource: Resource,
    live: JSON | None,
    wanted: JSON,
    manager: Manager,
    now: str,
    *,
    force: bool = False,
    schema: Node | None = None,
    reset: tuple[str, ...] = (),
) -> JSON:
    """The object after `manager` applied `wanted`, its managedFields included. Raises ApplyConflict and ApplyError."""
    if wanted.get("metadata", {}).get("managedFields"):
        raise ApplyError("metadata.managedFields must be nil")
    node, before = root_schema(resource, schema), live or {}
    try:
        return _apply(node, before, _without_bookkeeping(wanted), manager, now, force, reset)
    except fields.MissingKey as error:
        raise ApplyError(f"failed to create typed patch object: {error}") from error


def _apply(
    node: Node, live: JSON, wanted: JSON, manager: Manager, now: str, force: bool, reset: tuple[str, ...]
) -> JSON:
    bare = _without_bookkeeping(live) if live else {}
    owners = owners_of(live) or _before_first_apply(node, bare, manager, now)
    last = owners.get(manager.identity, Owned(manager, now, set()))
    claimed = _ownable(fields.field_set(node, wanted), reset)
    owners[manager.identity] = Owned(manager, last.time if claimed == last.paths else now, claimed)
    merged = fields.merge(node, bare, {key: value for key, value in wanted.items() if key not in reset})
    result: JSON = fields.without(node, merged, _abandoned(node, merged, last.paths, owners))
    changes = fields.compare(node, bare, result)
    _settle_conflicts(owners, manager, changes, force or _is_migration(node, live, manager, owners, changes))
    result = {**result, "metadata": {**result.get("metadata", {})}}
    _write_owners(result, owners)
    return result


def _before_first_apply(node: Node, live: JSON, manager: Manager, now: str) -> Owners:
    """An object that nobody has tracked belongs to a manager of that name."""
    if not live:
        return {}
    first = Manager(BEFORE_FIRST_APPLY, "Update", manager.api_version)
    return {first.identity: Owned(first, now, _ownable(fields.field_set(node, live), ()))}


def _abandoned(node: Node, merged: JSON, last: set[Path], owners: Owners) -> set[Path]:
    """What this manager applied before, applies no more, and nobody else owns."""
    if not last:
        return set()
    mine = fields.named(node, last)
    owned = fields.named(node, {path for each in owners.values() for path in each.paths})
    present = fields.named(node, fields.field_set(node, merged))
    orphaned = {path for path in present - owned if any(path[:depth] in mine for depth in range(1, len(path) + 1))}
    return {path for path in mine if any(path[:depth] in orphaned for depth in range(1, len(path) + 1))}


def _settle_conflicts(owners: Owners, manager: Manager, changes: fields.Changes, force: bool) -> None:
    """Without force, others' changed fields are conflicts; with it, they are lost to them."""
    touched = changes.modified | changes.added
    conflicts = _conflicts(owners, manager, touched)
    if conflicts and not force:
        raise _conflict(conflicts)
    _disown(owners, manager, touched, changes.removed)


def _conflicts(owners: Owners, manager: Manager, touched: set[Path]) -> list[tuple[Owned, Path]]:
    others = (each for identity, each in owners.items() if identity != manager.identity)
    return [(each, path) for each in others for path in sorted(each.paths & touched)]


def _is_migration(node: Node, live: JSON, manager: Manager, owners: Owners, changes: fields.Changes) -> bool:
    """kubectl may overrule what its own client-side apply wrote: fields as in the last-applied annotation."""
    annotation = (live.get("metadata") or {}).get("annotations", {}).get(LAST_APPLIED)
    if manager.name != "kubectl" or not annotation:
        return False
    try:
        applied = msgspec.json.decode(annotation, type=dict)
    except msgspec.DecodeError:
        return False
    differing = fields.compare(node, applied, _without_bookkeeping(live))
    allowed = fields.field_set(node, applied) - differing.modified - differing.added - differing.removed
    conflicts = _conflicts(owners, manager, changes.modified | changes.added)
    return all(path in allowed for _, path in conflicts)


def _conflict(conflicts: list[tuple[Owned, Path]]) -> ApplyConflict:
    causes = [
        Cause("FieldManagerConflict", fields.display(path), f"conflict with {_told(owned)}")
        for owned, path in conflicts
    ]
    if len(conflicts) == 1:
        return ApplyConflict(f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}", causes)
    by_manager: dict[str, list[str]] = {}
    for owned, path in conflicts:
        by_manager.setdefault(_told(owned), []).append(f"- {fields.display(path)}")
    lines = [line for told in sorted(by_manager) for line in (f"conflicts with {told}:", *by_manager[told])]
    return ApplyConflict(f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines), causes)


def _told(owned: Owned) -> str:
    manager = owned.manager
    told = f'"{manager.name}"' + (f' with subresource "{manager.subresource}"' if manager.subresource else "")
    if manager.operation != "Update":
        return told
    return f"{told} using {manager.api_version}" + (f" at {owned.time}" if owned.time else "")
