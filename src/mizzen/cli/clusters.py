"""Which cluster a verb is about: an embedded one by name, or whatever the kubeconfig says."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from mizzen.cli import exits
from mizzen.embedded.paths import DEFAULT_NAME, ClusterPaths, cluster_paths

if TYPE_CHECKING:
    from mizzen.embedded.clusters import Cluster
    from mizzen.kube.http import HttpApi

P = ParamSpec("P")
R = TypeVar("R")


def name_option(function: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--name",
        default=DEFAULT_NAME,
        show_default=True,
        envvar="MIZZEN_CLUSTER",
        callback=checked,
        help="Which embedded cluster.",
    )(function)


def checked(_: click.Context, __: click.Parameter, name: str) -> str:
    """The name, if a cluster can have it. Raises Failure."""
    paths_of(name)
    return name


def paths_of(name: str) -> ClusterPaths:
    try:
        return cluster_paths(name)
    except ValueError as error:
        raise exits.Failure(str(error), code=exits.USAGE) from error


def running_cluster(name: str) -> Cluster:
    """Raises Failure when it does not run."""
    from mizzen.embedded.clusters import status

    found = status(name)
    if found.state != "Running":
        raise exits.Failure(f"cluster {name} is {found.state.lower()}", "`mizzen up` starts it, with the mesh")
    return found


def with_cluster(name: str, use: Callable[[HttpApi], Awaitable[R]]) -> R:
    """Connect to an embedded cluster, whatever the kubeconfig says; do; disconnect."""
    import asyncio

    from mizzen.embedded.cluster import connection

    running_cluster(name)

    async def session() -> R:
        async with connection(name) as api:
            return await use(api)

    return asyncio.run(session())


def default_kubeconfig() -> Path | None:
    """Without a word from the user: what kubectl would read, else the embedded cluster's own."""
    if os.environ.get("KUBECONFIG") or (Path.home() / ".kube" / "config").exists():
        return None
    own = cluster_paths(os.environ.get("MIZZEN_CLUSTER", DEFAULT_NAME)).kubeconfig
    return own if own.exists() else None


async def connect(kubeconfig: str | None, context: str | None) -> HttpApi:
    """The cluster that kubectl would talk to. Raises ConfigError when no kubeconfig leads anywhere."""
    from mizzen.kube.http import connect as connect_http

    return await connect_http(kubeconfig or default_kubeconfig(), context)
