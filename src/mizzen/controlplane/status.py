"""Tells users, in `status` of their own objects, what became of them.

`status` carries one condition, `Reconciled`, with `observedGeneration`, and Istio's `validationMessages`. It is written
only when it would say something else than it does, so that no write causes the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from mizzen.analysis import findings
from mizzen.api.base import Object, Problem
from mizzen.controlplane.refusals import REFUSED
from mizzen.controlplane.watching import MESH_KINDS, Kind, Unreadable
from mizzen.kube.api import Api, ApiError, Conflict, NotFound, WriteOptions
from mizzen.kube.reflector import Key
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.standins import MEANING

JSON: TypeAlias = dict[str, Any]
log = logging.getLogger(__name__)

CONDITION = "Reconciled"
_RETRY_SECONDS = 1.0


def wanted_status(generation: int, problems: Iterable[Problem]) -> JSON:
    """Without times: those are put in when it is written."""
    found = _ordered(problems)
    failed = any(problem.level == "error" for problem in found)
    condition = {
        "type": CONDITION,
        "status": "False" if failed else "True",
        "reason": _reason(found) if failed else "ReconciledWithWarnings" if found else "Reconciled",
        "message": "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in found),
        "observedGeneration": generation,
    }
    messages = [
        {"type": {"code": one.code}, "level": one.level.upper(), "path": one.path, "message": one.message}
        for one in found
    ]
    return {
        "observedGeneration": generation,
        "conditions": [condition],
        **({"validationMessages": messages} if messages else {}),
    }


def _reason(problems: Iterable[Problem]) -> str:
    return "RejectedByProxies" if any(problem.code == REFUSED for problem in problems) else "Problems"


def _ordered(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda one: (one.level, one.code, one.path, one.message))


def says_the_same(known: Mapping[str, Any] | None, wanted: JSON) -> bool:
    """Whether `known`, apart from times, is what is wanted."""
    return known is not None and _timeless(known) == _timeless(wanted)


def _timeless(status: Mapping[str, Any]) -> JSON:
    ours = [one for one in status.get("conditions") or () if one.get("type") == CONDITION]
    conditions = [{key: value for key, value in one.items() if key != "lastTransitionTime"} for one in ours]
    messages = status.get("validationMessages") or []
    return {"generation": status.get("observedGeneration"), "conditions": conditions, "messages": messages}


class StatusWriter:
    """`settle` says what is; `run` writes what differs."""

    def __init__(self, api: Api, manager: str) -> None:
        self._api = api
        self._options = WriteOptions(manager=manager)
        self._judged: dict[tuple[Kind, Key], tuple[Object[Any], list[Problem]]] = {}
        """What was found about each object at the last `settle`: what is the same again is not looked at again."""
        self._wanted: dict[tuple[Kind, Key], tuple[Object[Any], JSON]] = {}
        """What has to be written."""
        self._written: dict[tuple[Kind, Key], JSON] = {}
        self._changed = asyncio.Event()

    def settle(
        self, snapshot: Snapshot, problems: Iterable[Problem], undecodable: Mapping[tuple[Kind, Key], Unreadable]
    ) -> None:
        """What every object's status is to say at this snapshot."""
        by_object: dict[tuple[str, str, str], list[Problem]] = {}
        for problem in {*problems, *findings(snapshot)}:
            by_object.setdefault((problem.kind, problem.namespace, problem.name), []).append(problem)
        before, self._judged = self._judged, {}
        for key, obj in _objects(snapshot, undecodable):
            kind, (namespace, name) = key
            found = _ordered(by_object.get((kind.__name__, namespace, name), ()))
            if unread := undecodable.get(key):
                found = [_unread(kind, unread)]
            self._judged[key] = verdict = (obj, found)
            known = before.get(key)
            if known is None or known[0] is not obj or known[1] != found:
                self._judge(key, *verdict)
        for gone in before.keys() - self._judged.keys():
            self._wanted.pop(gone, None)
            self._written.pop(gone, None)
        if self._wanted:
            self._changed.set()

    def _judge(self, key: tuple[Kind, Key], obj: Object[Any], found: list[Problem]) -> None:
        wanted = wanted_status(obj.metadata.generation, found)
        if says_the_same(self._written.get(key, obj.status), wanted):
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = (obj, wanted)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for key, (obj, wanted) in list(self._wanted.items()):
                await self._write(key, obj, wanted)

    async def _write(self, key: tuple[Kind, Key], obj: Object[Any], wanted: JSON) -> None:
        kind, (namespace, name) = key
        if self._wanted.get(key) != (obj, wanted):
            return  # overtaken
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {**wanted, "conditions": [{**one, "lastTransitionTime": now} for one in wanted["conditions"]]}
        status.setdefault("validationMessages", None)  # a merge patch removes what is null
        try:
            await self._api.patch(
                MESH_KINDS[kind], name, {"status": status}, namespace, subresource="status", options=self._options
            )
            self._written[key] = wanted
            if self._wanted.get(key) == (obj, wanted):
                del self._wanted[key]
        except (NotFound, Conflict):
            return
        except ApiError as error:
            log.warning("cannot write the status of %s %s.%s: %s", kind.__name__, name, namespace, error)
            await asyncio.sleep(_RETRY_SECONDS)
            self._changed.set()


def _objects(
    snapshot: Snapshot, undecodable: Mapping[tuple[Kind, Key], Unreadable]
) -> Iterator[tuple[tuple[Kind, Key], Object[Any]]]:
    """All stored objects of the mesh's kinds, also those that cannot be read."""
    for kind in MESH_KINDS:
        for obj in snapshot.table(kind):
            assert isinstance(obj, Object)
            key = (kind, (obj.namespace, obj.name))
            if key not in undecodable:
                yield key, obj
    for key, one in undecodable.items():
        if key[0] in MESH_KINDS:
            yield key, Object[Any](metadata=one.metadata, spec=None, status=one.status)


def _unread(kind: Kind, unread: Unreadable) -> Problem:
    if unread.kept:
        message = f"The newest version cannot be read ({unread.reason}); the one before stays in force."
    else:
        message = f"It cannot be read: {unread.reason}. {MEANING.get(kind, 'It is not in force.')}"
    return Problem(
        code="IST0106",
        level="error",
        kind=kind.__name__,
        namespace=unread.metadata.namespace,
        name=unread.metadata.name,
        path="",
        message=message,
    )
