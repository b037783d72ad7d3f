"""Everything the API server holds at one moment, as far as the mesh looks: immutable, one successor per change.

A `Table` holds the objects of one kind. What is derived from tables is remembered by their identity (`Snapshot.memo`),
so a change in EndpointSlices leaves everything that comes from Services alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeAlias, TypeVar, cast

from mizzen.api.apps import ReplicaSet
from mizzen.api.authorization import AuthorizationPolicy, RequestAuthentication
from mizzen.api.base import Metadata, Resource
from mizzen.api.core import ConfigMap, Namespace, Node, Pod, Secret, Service
from mizzen.api.decode import Undecodable
from mizzen.api.discovery import EndpointSlice
from mizzen.api.documents import parse_settings
from mizzen.api.ingress import Ingress, IngressClass
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import DestinationRule, Gateway, VirtualService
from mizzen.api.peer_authentication import PeerAuthentication
from mizzen.scope.memo import Memo

R = TypeVar("R", bound=Resource)
Key: TypeAlias = tuple[str, str]
"""Namespace and name."""
Grouping: TypeAlias = Callable[[R], Iterable[Hashable]]

SYSTEM_NAMESPACE = "istio-system"
MESH_CONFIG_MAP = "istio"


class KeySet(Resource):
    """What a URL of a RequestAuthentication led to when it was last asked. Not of the API server: we fetch it."""

    keys: str = ""
    """A JSON Web Key Set; "" when there is none to be had."""
    failure: str = ""

    @classmethod
    def of(cls, url: str, keys: str, failure: str = "") -> KeySet:
        return cls(metadata=Metadata(name=url), keys=keys, failure=failure)


class SecretReader(Resource):
    """What the control plane learned: whether a service account (name, namespace) may read its namespace's Secrets."""

    allowed: bool = False


WATCHED: tuple[type[Resource], ...] = (
    Service,
    EndpointSlice,
    Pod,
    Node,
    Namespace,
    ConfigMap,
    Secret,
    ReplicaSet,
    Gateway,
    VirtualService,
    DestinationRule,
    PeerAuthentication,
    AuthorizationPolicy,
    RequestAuthentication,
    Ingress,
    IngressClass,
    KeySet,
    SecretReader,
)
"""The kinds that a snapshot keeps; a change of any other kind is ignored."""


class Change(NamedTuple):
    """One object that is there now (`after`), or no longer (None)."""

    kind: type[Resource]
    namespace: str
    name: str
    after: Resource | None


def present(obj: Resource) -> Change:
    return Change(type(obj), obj.metadata.namespace, obj.metadata.name, obj)


def absent(obj: Resource) -> Change:
    return Change(type(obj), obj.metadata.namespace, obj.metadata.name, None)


class Table(Generic[R]):
    """The objects of one kind. Groupings are made when first asked for, and kept up to date by later changes."""

    def __init__(self, objects: Mapping[Key, R]) -> None:
        self._objects = dict(objects)
        self._groups: dict[Grouping[R], dict[Hashable, tuple[R, ...]]] = {}

    def get(self, namespace: str, name: str) -> R | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[R]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def grouped(self, by: Grouping[R]) -> Mapping[Hashable, tuple[R, ...]]:
        """Objects by the keys that `by` gives them, oldest first. `by` must be a module's function, not a lambda."""
        if by not in self._groups:
            groups: dict[Hashable, list[R]] = {}
            for obj in self:
                for key in by(obj):
                    groups.setdefault(key, []).append(obj)
            self._groups[by] = {key: _oldest_first(members) for key, members in groups.items()}
        return self._groups[by]

    def with_changes(self, changes: Iterable[Change]) -> Table[R]:
        """A table with these objects added, replaced or gone; itself when nothing changes."""
        objects = dict(self._objects)
        done: list[tuple[R | None, R | None]] = []
        for _, namespace, name, after in changes:
            before = objects.pop((namespace, name), None)
            new = before if before == after else cast("R | None", after)
            if new is not None:
                objects[namespace, name] = new
            if new is not before:
                done.append((before, new))
        return self._changed(objects, done) if done else self

    def _changed(self, objects: Mapping[Key, R], done: list[tuple[R | None, R | None]]) -> Table[R]:
        changed = Table[R](objects)
        for by, groups in self._groups.items():
            regrouped = dict(groups)
            for before, after in done:
                _regroup(regrouped, by, before, after)
            changed._groups[by] = regrouped
        return changed


def by_namespace(obj: Resource) -> Iterable[str]:
    return (obj.metadata.namespace,)


def _oldest_first(members: Iterable[R]) -> tuple[R, ...]:
    return tuple(sorted(members, key=lambda obj: obj.age_key))


def _regroup(groups: dict[Hashable, tuple[R, ...]], by: Grouping[R], before: R | None, after: R | None) -> None:
    for key in by(before) if before is not None else ():
        rest = tuple(obj for obj in groups.get(key, ()) if obj is not before)
        groups[key] = rest
        if not rest:
            del groups[key]
    for key in by(after) if after is not None else ():
        assert after is not None
        groups[key] = _oldest_first((*groups.get(key, ()), after))


class Snapshot:
    """Tables by kind. `apply` gives the successor; both stay valid and share what did not change."""

    def __init__(
        self, tables: Mapping[type[Resource], Table[Resource]] | None = None, memo: Memo | None = None
    ) -> None:
        self._tables = dict(tables) if tables is not None else {kind: Table[Resource]({}) for kind in WATCHED}
        self.memo = memo if memo is not None else Memo()

    @classmethod
    def of(cls, objects: Iterable[Resource]) -> Snapshot:
        """For tests and tools that have all objects at hand."""
        return cls().apply(*map(present, objects))

    def table(self, kind: type[R]) -> Table[R]:
        return cast("Table[R]", self._tables[kind])

    def get(self, kind: type[R], namespace: str, name: str) -> R | None:
        return self.table(kind).get(namespace, name)

    def apply(self, *changes: Change) -> Snapshot:
        """The snapshot after these changes, in their order; itself when they change nothing."""
        tables = dict(self._tables)
        for kind, table in self._tables.items():
            own = [change for change in changes if change.kind is kind]
            tables[kind] = table.with_changes(own)
        if all(tables[kind] is table for kind, table in self._tables.items()):
            return self
        return Snapshot(tables, self.memo)

    @property
    def mesh(self) -> MeshConfig:
        """From the ConfigMap `istio`; Istio's defaults while it is absent or cannot be read (see `mesh_problem`)."""
        return self.memo(_mesh, self.get(ConfigMap, SYSTEM_NAMESPACE, MESH_CONFIG_MAP))[0]

    @property
    def mesh_problem(self) -> str:
        """Why the mesh's own settings are not in force; "" when they are."""
        return self.memo(_mesh, self.get(ConfigMap, SYSTEM_NAMESPACE, MESH_CONFIG_MAP))[1]


def _mesh(settings: ConfigMap | None) -> tuple[MeshConfig, str]:
    text = settings.data.get("mesh", "") if settings else ""
    try:
        return parse_settings(text, MeshConfig), ""
    except Undecodable as error:
        return MeshConfig(), str(error)
