"""The folders behind PersistentVolumeClaims: `claims/NAMESPACE/NAME_UID`. They go when their claim is gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError, NotFound, Resource
from mizzen.kube.informer import Informer

log = logging.getLogger(__name__)

CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
_LOOK_AGAIN = 5.0
_OVER = ("Succeeded", "Failed")


async def run_claims(api: Api, folder: Path) -> None:
    """Until cancelled. A folder that a Pod still uses stays until that is over."""
    claims = Informer(api, CLAIMS)
    changed = asyncio.Event()
    claims.subscribe(lambda changes: changed.set() if any(each.new is None for each in changes) else None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(claims.run())
        await claims.wait_synced()
        while True:
            changed.clear()
            try:
                left = [each for each in _without_claim(claims, folder) if not await _removed(api, each)]
            except (ApiError, OSError) as error:
                log.warning("folders of claims that are gone stay for now: %s", error)
                left = [folder]
            try:
                async with asyncio.timeout(_LOOK_AGAIN if left else None):
                    await changed.wait()
            except TimeoutError:
                continue


def _without_claim(claims: Informer, folder: Path) -> Iterator[Path]:
    for path in folder.glob("*/*_*"):
        known = claims.get(path.parent.name, _name(path))
        if known is None or known["metadata"]["uid"] != _uid(path):
            yield path


async def _removed(api: Api, path: Path) -> bool:
    """Asked once more: the folder may be newer than what was watched."""
    namespace, name = path.parent.name, _name(path)
    try:
        claim = await api.get(CLAIMS, name, namespace)
        if claim["metadata"]["uid"] == _uid(path):
            return True
    except NotFound:
        pods = await api.list(WELL_KNOWN.pods, namespace)
        if any(_uses(pod, name) for pod in pods.items):
            return False
    log.info("removing the folder of claim %s/%s, which is gone", namespace, name)
    await asyncio.to_thread(shutil.rmtree, path)
    return True


def _uses(pod: JSON, claim: str) -> bool:
    named = {
        (volume.get("persistentVolumeClaim") or {}).get("claimName", f"{pod['metadata']['name']}-{volume['name']}")
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume or "ephemeral" in volume
    }
    return claim in named and (pod.get("status") or {}).get("phase") not in _OVER


def _name(path: Path) -> str:
    return path.name.rpartition("_")[0]


def _uid(path: Path) -> str:
    return path.name.rpartition("_")[2]
