"""Which embedded clusters there are, and what there is of each, without asking it anything.

Almost every command begins here: it loads nothing but what reads a record.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mizzen.embedded.box.record import Box, running
from mizzen.embedded.paths import DEFAULT_NAME, ClusterPaths, cluster_names, cluster_paths


class Cluster(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cluster as `mizzen cluster status` shows it."""

    name: str
    state: Literal["Running", "Starting", "Stopped", "Absent"]
    context: str
    """Its context in the user's kubeconfig."""
    kubeconfig: str = ""
    """A kubeconfig with this cluster alone."""
    address: str = ""
    """`mizzen ip`: NodePorts answer there."""
    api_url: str = ""
    rootless: bool = False
    ip_families: tuple[str, ...] = ()
    """Of its Pods and Services."""
    pid: int = 0


def context_name(name: str) -> str:
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def names() -> list[str]:
    """Every cluster with a state folder."""
    return cluster_names()


def status(name: str = DEFAULT_NAME) -> Cluster:
    """What there is of the cluster, without asking it anything."""
    paths = cluster_paths(name)
    if not paths.root.is_dir():
        return Cluster(name=name, state="Absent", context=context_name(name))
    box = running(paths)
    if box is None:
        return Cluster(name=name, state="Stopped", context=context_name(name))
    return described(name, paths, box, ready=paths.kubeconfig.exists())


def described(name: str, paths: ClusterPaths, box: Box, *, ready: bool) -> Cluster:
    return Cluster(
        name=name,
        state="Running" if ready else "Starting",
        context=context_name(name),
        kubeconfig=str(paths.kubeconfig),
        address=box.address,
        api_url=box.api_url,
        rootless=box.rootless,
        ip_families=("IPv4", *(["IPv6"] if box.ipv6 else [])),
        pid=box.pid,
    )
