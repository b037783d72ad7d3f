"""The life of an embedded cluster, for the command line: start, stop, delete."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mizzen.embedded import kubeconfig
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.pki_files import kubeconfig as kubeconfig_text
from mizzen.embedded.box import create
from mizzen.embedded.box.record import Box, running
from mizzen.embedded.clusters import Cluster, context_name, described
from mizzen.embedded.paths import DEFAULT_NAME, ClusterPaths, cluster_paths
from mizzen.embedded.placement import NODE_NAME
from mizzen.kube.api import WELL_KNOWN, ApiError
from mizzen.kube.conditions import holds
from mizzen.kube.config import ConfigError
from mizzen.kube.http import HttpApi

START_LIMIT = 60.0
_POLL = 0.05


class ClusterError(Exception):
    """What was asked for could not be done; the message says what helps."""


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What `delete` must undo: the kubeconfig that was changed, and the context that was current before."""

    path: str
    previous: str = ""


async def start(
    name: str = DEFAULT_NAME, *, progress: Callable[[str], None] = lambda _: None, user_kubeconfig: Path | None = None
) -> Cluster:
    """The cluster, running and with a Ready node; started if it was not. Merged into the user's kubeconfig.

    Raises ClusterError, BoxError, KubeconfigError.
    """
    paths = cluster_paths(name)
    progress("making the box")
    box = await asyncio.to_thread(create.start, paths)
    deadline = time.monotonic() + START_LIMIT
    progress("waiting for the API server")
    await _until(deadline, paths, "the API server does not answer", lambda: _write_own_kubeconfig(paths, box))
    async with HttpApi.from_kubeconfig(paths.kubeconfig) as api:
        await _until(deadline, paths, "the API server does not answer", lambda: _answers(api))
        progress("waiting for the node")
        await _until(deadline, paths, "the node is not ready", lambda: _node_ready(api, box))
    wanted = user_kubeconfig or kubeconfig.user_path()
    if wanted != paths.kubeconfig:  # with `mizzen env` in force, it is the cluster's own file already
        _merge(name, paths, wanted)
    return described(name, paths, box, ready=True)


async def stop(name: str = DEFAULT_NAME) -> bool:
    """End the cluster and keep its state. False if it was not running. Raises BoxError."""
    return await asyncio.to_thread(create.stop, cluster_paths(name))


async def delete(name: str = DEFAULT_NAME) -> bool:
    """End the cluster, take it out of the kubeconfig and remove its state. False if there was none."""
    paths = cluster_paths(name)
    if not paths.root.is_dir():
        return False
    await stop(name)
    remembered = _remembered(paths)
    if remembered:
        kubeconfig.remove_from(Path(remembered.path), context_name(name), remembered.previous)
    await asyncio.to_thread(shutil.rmtree, paths.root)
    return True


async def _until(deadline: float, paths: ClusterPaths, complaint: str, holds: Callable[[], object]) -> None:
    """Try again until it holds; `holds` may be a coroutine function. Raises ClusterError."""
    while True:
        outcome = holds()
        if await outcome if asyncio.iscoroutine(outcome) else outcome:
            return
        if running(paths) is None:
            raise ClusterError(f"the cluster ended while it was starting; see {paths.logs / 'init.log'}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{complaint} within {START_LIMIT:.0f} s; see the files in {paths.logs}")
        await asyncio.sleep(_POLL)


def _write_own_kubeconfig(paths: ClusterPaths, box: Box) -> bool:
    """The API server makes the keys when it first starts."""
    pki = Pki(paths.pki)
    if not (pki.ca.exists() and pki.certificate("admin").exists() and pki.key("admin").exists()):
        return False
    paths.kubeconfig.touch(mode=0o600)
    paths.kubeconfig.write_text(kubeconfig_text(pki, box.api_url))
    return True


async def _answers(api: HttpApi) -> bool:
    with contextlib.suppress(ApiError, ssl.SSLError):
        await api.raw("GET", "/version")
        return True
    return False


async def _node_ready(api: HttpApi, box: Box) -> bool:
    """Ready in this life of the box: what the store holds may be from the one before."""
    try:
        node = await api.get(WELL_KNOWN.nodes, NODE_NAME)
    except ApiError:
        return False
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return info.get("bootID") == box.life and holds(node, "Ready")


def _merge(name: str, paths: ClusterPaths, path: Path) -> None:
    entry = kubeconfig.entry_of(paths.kubeconfig.read_text(), context_name(name))
    before = _remembered(paths)
    previous = kubeconfig.merge_into(path, entry)
    if not previous and before and before.path == str(path):
        previous = before.previous
    _memory(paths).write_bytes(msgspec.json.encode(_Remembered(path=str(path), previous=previous)))


def _memory(paths: ClusterPaths) -> Path:
    return paths.root / "kubeconfig.json"


def _remembered(paths: ClusterPaths) -> _Remembered | None:
    path = _memory(paths)
    return msgspec.json.decode(path.read_bytes(), type=_Remembered) if path.exists() else None


def connection(name: str = DEFAULT_NAME) -> HttpApi:
    """An API client for the cluster. Raises ClusterError if it was never started."""
    try:
        return HttpApi.from_kubeconfig(cluster_paths(name).kubeconfig)
    except ConfigError as error:
        raise ClusterError(f"cluster {name!r} has not been started; `mizzen cluster start` does") from error
