"""Tells users what became of their Ingresses: the gateway's address in `status.loadBalancer`, and Events.

An Ingress's status has no room for conditions, so that what is wrong with one is said as controllers of Kubernetes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

from mizzen.analysis import findings
from mizzen.api.base import Problem
from mizzen.api.core import Node, Pod, Service
from mizzen.api.decode import to_json
from mizzen.api.ingress import Ingress
from mizzen.api.validate import validate
from mizzen.kube.api import WELL_KNOWN, AlreadyExists, Api, ApiError, Conflict, NotFound, WriteOptions
from mizzen.kube.reflector import Key
from mizzen.scope.ingresses import NAMESPACE, gateway_selector, translated
from mizzen.scope.snapshot import Snapshot, by_namespace

JSON: TypeAlias = dict[str, Any]
log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_COMPONENT = "istiod"


def addresses(snapshot: Snapshot) -> list[JSON]:
    """Where the ingress gateway answers, as `status.loadBalancer.ingress` wants it: sorted, names last."""
    found = [_entry(address) for address in dict.fromkeys(_addresses(snapshot)) if address]
    return sorted(found, key=lambda one: (one.get("hostname", ""), one.get("ip", "")))


def _addresses(snapshot: Snapshot) -> Iterator[str]:
    """Of the Service that the mesh's settings name; without one, of the nodes that its Pods run on."""
    name = snapshot.mesh.ingress_service
    if not name:
        yield from _of_nodes(snapshot)
        return
    service = snapshot.get(Service, NAMESPACE, name)
    if service is None:
        return
    if service.spec.type == "ExternalName":
        yield service.spec.external_name
        return
    yield from (one.ip or one.hostname for one in service.status.load_balancer.ingress)
    yield from service.spec.external_ips


def _of_nodes(snapshot: Snapshot) -> Iterator[str]:
    wanted = gateway_selector(snapshot.mesh).items()
    for pod in snapshot.table(Pod).grouped(by_namespace).get(NAMESPACE, ()):
        node = snapshot.get(Node, "", pod.spec.node_name) if wanted <= pod.metadata.labels.items() else None
        for address in (node.status or {}).get("addresses", ()) if node else ():
            if address.get("type") == "ExternalIP":
                yield address.get("address", "")


def _entry(address: str) -> JSON:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"hostname": address}
    return {"ip": address}


def event(ingress: Ingress, found: Problem, instance: str, now: str) -> JSON:
    """One for each thing to say of an object: its name says which, so that it is written once, whoever does."""
    words = "\0".join((ingress.metadata.uid, found.code, found.path, found.message))
    meta = ingress.metadata
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{meta.name}.{hashlib.sha256(words.encode()).hexdigest()[:16]}",
            "namespace": meta.namespace,
        },
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "reason": found.code,
        "message": f"{found.path}: {found.message}",
        "type": "Warning",
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "reportingInstance": instance,
    }


class IngressStatusWriter:
    """`settle` says what is; `run` writes what differs."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._name = name
        self._options = WriteOptions(manager=name)
        self._wanted: dict[Key, list[JSON]] = {}
        """Addresses to be written."""
        self._written: dict[Key, list[JSON]] = {}
        self._unsaid: dict[str, tuple[Ingress, Problem]] = {}
        self._said: set[str] = set()
        """Names of Events."""
        self._changed = asyncio.Event()

    def settle(self, snapshot: Snapshot, problems: Iterable[Problem]) -> None:
        """What every Ingress is to say at this snapshot. One that is no longer ours loses what we wrote."""
        served = {(one.namespace, one.name): one for one in translated(snapshot).ingresses}
        address = addresses(snapshot)
        for key, ingress in served.items():
            self._want(key, self._written.get(key, _known(ingress)), address)
        for key in self._written.keys() - served.keys():
            if snapshot.get(Ingress, *key) is None:
                self._wanted.pop(key, None)
                del self._written[key]
            else:
                self._want(key, self._written[key], [])
        self._say(snapshot, [*problems, *findings(snapshot), *_of_themselves(served.values())])
        if self._wanted or self._unsaid:
            self._changed.set()

    def _want(self, key: Key, known: list[JSON], address: list[JSON]) -> None:
        if known == address:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = address

    def _say(self, snapshot: Snapshot, problems: Iterable[Problem]) -> None:
        for found in problems:
            ingress = snapshot.get(Ingress, found.namespace, found.name) if found.kind == "Ingress" else None
            if ingress is not None:
                name = event(ingress, found, self._name, "")["metadata"]["name"]
                if name not in self._said:
                    self._unsaid[name] = (ingress, found)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                for key, address in list(self._wanted.items()):
                    await self._write(key, address)
                for name, (ingress, found) in list(self._unsaid.items()):
                    await self._tell(name, ingress, found)
            except ApiError as error:
                log.warning("cannot write what became of Ingresses: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._changed.set()

    async def _write(self, key: Key, address: list[JSON]) -> None:
        namespace, name = key
        status = {"status": {"loadBalancer": {"ingress": address or None}}}
        try:
            await self._api.patch(
                WELL_KNOWN.ingresses, name, status, namespace, subresource="status", options=self._options
            )
        except (NotFound, Conflict):
            return
        self._written[key] = address
        if self._wanted.get(key) == address:
            del self._wanted[key]

    async def _tell(self, name: str, ingress: Ingress, found: Problem) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with contextlib.suppress(AlreadyExists, NotFound):
            await self._api.create(WELL_KNOWN.events, event(ingress, found, self._name, now), ingress.namespace)
        self._said.add(name)
        self._unsaid.pop(name, None)


def _known(ingress: Ingress) -> list[JSON]:
    balancer = (ingress.status or {}).get("loadBalancer") or {}
    return [{key: one[key] for key in ("hostname", "ip") if one.get(key)} for one in balancer.get("ingress") or ()]


def _of_themselves(ingresses: Iterable[Ingress]) -> Iterator[Problem]:
    """What can be said without looking around."""
    for ingress in ingresses:
        yield from validate({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", **to_json(ingress)})
