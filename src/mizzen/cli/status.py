"""`mizzen status`: what runs on this machine, and what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from mizzen.cli import exits, render
from mizzen.cli.clusters import name_option, with_cluster

if TYPE_CHECKING:
    from mizzen.kube.api import JSON
    from mizzen.kube.http import HttpApi

TRAFFIC = {
    "STRICT": "mutual TLS between Pods with sidecars, which take nothing else (STRICT)",
    "PERMISSIVE": "mutual TLS between Pods with sidecars, which take plain text from others, too (PERMISSIVE)",
    "DISABLE": "plain text between Pods (DISABLE)",
}
"""By the mode of the whole mesh."""


class Trouble(msgspec.Struct, frozen=True):
    """One thing that is not as it should be."""

    object: str
    message: str


class Status(msgspec.Struct, frozen=True, rename="camel"):
    cluster: str
    state: str
    address: str = ""
    control_plane: str = "not installed"
    proxies: int = 0
    in_sync: int = 0
    traffic: str = "not of a mesh"
    troubles: list[Trouble] = []


@click.command()
@name_option
@render.output
def command(name: str, form: str) -> None:
    """What runs, and what is wrong with it. Exit code 1 when something is."""
    from mizzen.embedded.clusters import status as cluster_status

    found = cluster_status(name)
    status = Status(found.name, found.state, found.address)
    if found.state == "Running":
        status = with_cluster(name, lambda api: examine(api, status))
    if form == "table":
        click.echo("\n".join(lines(status)))
    else:
        render.show(form, status, (), ())
    if status.troubles or found.state != "Running":
        raise click.exceptions.Exit(exits.FAILED)


async def examine(api: HttpApi, bare: Status) -> Status:
    from mizzen.explain.proxy_status import proxy_status
    from mizzen.kube.api import WELL_KNOWN, NotFound, Selector

    pods = (await api.list(WELL_KNOWN.pods)).items
    troubles = [*unready(pods)]
    if not (await api.list(WELL_KNOWN.deployments, "istio-system", Selector(labels="app=istiod"))).items:
        return msgspec.structs.replace(bare, troubles=troubles)
    troubles += [trouble async for trouble in complaints(api)]
    try:
        proxies = await proxy_status(api)
    except NotFound as error:
        return msgspec.structs.replace(bare, control_plane=f"down: {error}", troubles=troubles)
    refused = [
        Trouble(f"proxy {row.name}", f"refused {one.type} {one.name}: {one.message}")
        for row in proxies
        for one in row.refused
    ]
    in_sync = sum(set(row.types.values()) <= {"SYNCED", "NOT SENT"} for row in proxies)
    return msgspec.structs.replace(
        bare,
        control_plane="running",
        proxies=len(proxies),
        in_sync=in_sync,
        traffic=await traffic(api),
        troubles=troubles + refused,
    )


async def traffic(api: HttpApi) -> str:
    """What PeerAuthentications say about the mesh, and how many of them say something else about a part of it."""
    from mizzen.api.decode import convert
    from mizzen.api.peer_authentication import PeerAuthentication
    from mizzen.kube.api import Resource
    from mizzen.scope.mtls import peer_policies
    from mizzen.scope.snapshot import SYSTEM_NAMESPACE, Snapshot

    resource = Resource("security.istio.io", "v1", "peerauthentications", "PeerAuthentication")
    policies = [convert(one, PeerAuthentication) for one in (await api.list(resource)).items]
    mode = peer_policies(Snapshot.of(policies)).workload(SYSTEM_NAMESPACE, {}).mode
    narrower = sum(one.namespace != SYSTEM_NAMESPACE for one in policies)
    return TRAFFIC[mode] + (f"; {narrower} PeerAuthentications of namespaces differ" if narrower else "")


def unready(pods: list[JSON]) -> Iterator[Trouble]:
    from mizzen.kube.conditions import holds

    for pod in pods:
        finished = (pod.get("status") or {}).get("phase") == "Succeeded"
        if not holds(pod, "Ready") and not finished:
            metadata = pod["metadata"]
            yield Trouble(f"pod/{metadata['name']}.{metadata['namespace']}", why_unready(pod))


def why_unready(pod: JSON) -> str:
    """What a container waits for, how the last one ended, else the condition's own words."""
    from mizzen.kube.conditions import condition

    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = one.get("state") or {}
        ended = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
        code = f"exit code {ended['exitCode']}" if "exitCode" in ended else ""
        waiting = state.get("waiting") or {}
        words = [waiting.get("reason") or ended.get("reason"), code, waiting.get("message")]
        if not one.get("ready") and (waiting or ended):
            return f"{one['name']}: {', '.join(word for word in words if word)}"
    return condition(pod, "Ready").get("message") or "not ready"


async def complaints(api: HttpApi) -> AsyncIterator[Trouble]:
    """What istiod wrote into the status of Istio's objects."""
    from mizzen.api.registry import KINDS
    from mizzen.kube.api import NotFound, Resource

    for kind in KINDS:
        resource = Resource(kind.group, kind.storage_version, kind.plural, kind.kind)
        try:
            items = (await api.list(resource)).items
        except NotFound:
            continue  # a kind whose definition is not installed
        for obj in items:
            for message in (obj.get("status") or {}).get("validationMessages") or ():
                metadata = obj["metadata"]
                where = f"{kind.kind.lower()}/{metadata['name']}.{metadata['namespace']}"
                yield Trouble(where, f"{message['level'].lower()}: {message.get('path', '')}: {message['message']}")


def lines(status: Status) -> Iterator[str]:
    place = f" at {status.address}" if status.address else ""
    yield f"cluster        {status.cluster}: {status.state.lower()}{place}"
    if status.state != "Running":
        yield "next           mizzen up"
        return
    yield f"control plane  {status.control_plane}"
    yield f"proxies        {status.proxies}, {status.in_sync} in sync"
    yield f"traffic        {status.traffic}"
    for trouble in status.troubles:
        yield f"✘ {trouble.object}: {trouble.message}"
