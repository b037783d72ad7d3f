"""Which resource types are served now: the built-ins, and those of the stored CustomResourceDefinitions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mizzen.embedded.apiserver.resources import BUILT_INS, ResourceType, custom_types
from mizzen.embedded.apiserver.store_entries import Event
from mizzen.kube.api import JSON

_VERSION = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$")
_STAGES = {None: 2, "beta": 1, "alpha": 0}


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts Kubernetes' way when reversed: v2 > v1 > v1beta2 > v1alpha1 > anything else."""
    match = _VERSION.match(version)
    if not match:
        return (-1, 0, 0, version)
    return (_STAGES[match[2]], int(match[1]), int(match[3] or 0), version)


class Registry:
    """Resource types by path. `generation` grows with each change, so that caches know."""

    def __init__(self) -> None:
        self.generation = 0
        self._types: dict[tuple[str, str, str], ResourceType] = {}
        self._custom: dict[str, list[ResourceType]] = {}
        self._rebuild()

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._types.get((group, version, plural))

    def find_kind(self, api_version: str, kind: str) -> ResourceType | None:
        group, _, version = api_version.rpartition("/")
        return next((each for each in self.of(group, version) if each.resource.kind == kind), None)

    def of(self, group: str, version: str) -> list[ResourceType]:
        """The types of one group and version, by plural."""
        found = (each for key, each in self._types.items() if key[:2] == (group, version))
        return sorted(found, key=lambda each: each.resource.plural)

    def versions(self) -> dict[str, list[str]]:
        """Group → versions, the preferred one first; "" (the core group) included."""
        found: dict[str, set[str]] = {}
        for group, version, _ in self._types:
            found.setdefault(group, set()).add(version)
        return {group: sorted(found[group], key=version_priority, reverse=True) for group in sorted(found)}

    def stored(self) -> Iterable[ResourceType]:
        """One type per kind that the store may hold."""
        seen: dict[str, ResourceType] = {}
        for each in self._types.values():
            if "list" in each.verbs and each.resource.group != "metrics.k8s.io":
                seen.setdefault(each.storage, each)
        return seen.values()

    def versions_of(self, storage: str) -> list[ResourceType]:
        return [each for each in self._types.values() if each.storage == storage]

    def crd_changed(self, event: Event) -> None:
        """A listener for the store's CustomResourceDefinitions."""
        crd = event.entry.document()
        self._custom.pop(event.entry.key.name, None)
        if event.type != "DELETED" and established(crd):
            self._custom[event.entry.key.name] = custom_types(crd)
        self._rebuild()

    def _rebuild(self) -> None:
        every = [*BUILT_INS, *(each for types in self._custom.values() for each in types)]
        self._types = {(each.resource.group, each.resource.version, each.resource.plural): each for each in every}
        self.generation += 1


def established(crd: JSON) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
