"""What the workers of all Pods share."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mizzen.embedded import images
from mizzen.embedded.box.cgroups import Hierarchy
from mizzen.embedded.box.messages import Exit
from mizzen.embedded.node.container import Machine
from mizzen.embedded.node.environment import Source
from mizzen.embedded.node.events import Recorder
from mizzen.embedded.node.fields import Capacity
from mizzen.embedded.node.init_client import InitClient
from mizzen.embedded.node.payload import Reference, TokenRequest
from mizzen.embedded.node.policies import Policies
from mizzen.embedded.node.probes import Prober
from mizzen.embedded.paths import ClusterPaths
from mizzen.kube.api import JSON, WELL_KNOWN, Api, NotFound
from mizzen.kube.informer import Informer

TOKEN_SHARE = 0.8
"""A token is renewed after this part of its life."""


class Exits:
    """Who waits for which process of init's to end."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Exit]] = {}

    def expect(self, id: str) -> asyncio.Future[Exit]:
        """Call it before the process is started: its end may be told before its start."""
        self._waiting[id] = asyncio.get_running_loop().create_future()
        return self._waiting[id]

    def tell(self, id: str, exit: Exit) -> bool:
        """False if nobody waits for it."""
        future = self._waiting.pop(id, None)
        if future and not future.done():
            future.set_result(exit)
        return future is not None

    def drop(self, id: str) -> None:
        self._waiting.pop(id, None)


class Images:
    """The image table; the user's part is read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._builtin = images.builtin_images()
        self._user: Mapping[str, images.Image] = {}
        self._read_at: int | None = None

    def resolve(self, image: str) -> images.Image | None:
        """Raises ValueError when the user's file is damaged."""
        changed = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if changed != self._read_at:
            self._user = images.load(self._path)
            self._read_at = changed
        return images.resolve(image, self._user, self._builtin)


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    renew_at: float


class Tokens:
    """Service account tokens of Pods, kept until it is time for new ones."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kept: dict[tuple[str, TokenRequest], Token] = {}

    async def get(self, pod: JSON, request: TokenRequest) -> Token:
        """A token for the Pod's service account, bound to the Pod. Raises ApiError."""
        metadata = pod["metadata"]
        kept = self._kept.get((metadata["uid"], request))
        if kept and kept.renew_at > time.time():
            return kept
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec: dict[str, Any] = {"expirationSeconds": request.seconds, "boundObjectRef": bound}
        spec["audiences"] = [request.audience] if request.audience else []
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        account = pod["spec"].get("serviceAccountName") or "default"
        answer = await self._api.post_subresource(
            WELL_KNOWN.serviceaccounts, account, "token", body, metadata["namespace"]
        )
        fresh = Token(answer["status"]["token"], time.time() + request.seconds * TOKEN_SHARE)
        self._kept[metadata["uid"], request] = fresh
        return fresh

    def forget(self, uid: str) -> None:
        for key in [key for key in self._kept if key[0] == uid]:
            del self._kept[key]


@dataclass(slots=True)
class Parts:
    """One node's means. `host_ips` are the addresses Pods see as their node's, one of each IP family."""

    api: Api
    init: InitClient
    paths: ClusterPaths
    recorder: Recorder
    prober: Prober
    images: Images
    tokens: Tokens
    services: Informer
    policies: Policies
    machine: Machine
    capacity: Capacity
    host_ips: tuple[str, ...]
    resolver: str
    single_user: bool = False
    host_paths: tuple[Path, ...] = ()
    cgroups: Hierarchy | None = None
    exits: Exits = field(default_factory=Exits)

    async def sources(self, namespace: str, references: Iterable[Reference]) -> Source:
        """Read the ConfigMaps and Secrets now. Raises ApiError."""
        wanted = list(references)
        found = dict(zip(wanted, await asyncio.gather(*(self._read(namespace, each) for each in wanted)), strict=True))

        def source(kind: Literal["ConfigMap", "Secret"], name: str) -> JSON | None:
            return found.get((kind, name))

        return source

    async def _read(self, namespace: str, reference: Reference) -> JSON | None:
        kind, name = reference
        resource = WELL_KNOWN.configmaps if kind == "ConfigMap" else WELL_KNOWN.secrets
        try:
            obj = await self.api.get(resource, name, namespace)
        except NotFound:
            return None
        return {**obj, "kind": kind}

    def services_of(self, namespace: str) -> list[JSON]:
        """The Services whose addresses a Pod of `namespace` gets as variables."""
        own = [obj for (space, _), obj in self.services.objects.items() if space == namespace]
        kubernetes = self.services.get("default", "kubernetes")
        return [kubernetes, *own] if kubernetes and namespace != "default" else own


def unique(prefix: str) -> str:
    """An id for a process beside the containers, never used again."""
    return f"{prefix}/{secrets.token_hex(8)}"
