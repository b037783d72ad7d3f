"""`mizzen cluster start|stop|status|delete`: the bare cluster, without a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.clusters import name_option
from mizzen.cli.groups import Group

if TYPE_CHECKING:
    from mizzen.embedded.clusters import Cluster


def start_cluster(name: str) -> Cluster:
    """The running cluster, with progress on stderr. Raises Failure that says what this machine lacks."""
    import asyncio

    from mizzen.embedded import cluster, clusters, doctor
    from mizzen.embedded.box.record import BoxError
    from mizzen.embedded.kubeconfig import KubeconfigError

    findings = doctor.examine(name)
    for finding in findings:
        if finding.warning:
            talk.warn(f"{finding.check}: {finding.detail}\n    {finding.cure}")
    lacking = [finding for finding in findings if not finding.ok]
    if lacking and clusters.status(name).state != "Running":
        first = lacking[0]
        raise exits.Failure(f"{first.check}: {first.detail}", first.cure or "`mizzen doctor` tells more")
    try:
        with talk.step(f"Starting cluster {name}", f"Cluster {name} is running"):
            return asyncio.run(cluster.start(name))
    except (BoxError, cluster.ClusterError, KubeconfigError) as error:
        raise exits.Failure(str(error), "`mizzen doctor` says what this machine lacks") from error


def stop_cluster(name: str) -> None:
    import asyncio

    from mizzen.embedded import cluster
    from mizzen.embedded.box.record import BoxError

    try:
        stopped = asyncio.run(cluster.stop(name))
    except BoxError as error:
        raise exits.Failure(str(error)) from error
    talk.say(f"✔ Cluster {name} is stopped; its state is kept" if stopped else f"cluster {name} was not running")


def delete_cluster(name: str) -> None:
    import asyncio

    from mizzen.embedded import cluster
    from mizzen.embedded.box.record import BoxError

    try:
        deleted = asyncio.run(cluster.delete(name))
    except BoxError as error:
        raise exits.Failure(str(error)) from error
    talk.say(f"✔ Cluster {name} is deleted" if deleted else f"there is no cluster {name}")


@click.group(cls=Group)
def command() -> None:
    """The bare cluster, without a mesh."""


@command.command()
@name_option
def start(name: str) -> None:
    """Start the cluster and make it kubectl's current context."""
    start_cluster(name)


@command.command()
@name_option
def stop(name: str) -> None:
    """End every process of the cluster; its objects stay for the next start."""
    stop_cluster(name)


@command.command()
@name_option
def delete(name: str) -> None:
    """Stop the cluster, forget its objects, take it out of the kubeconfig."""
    delete_cluster(name)


@command.command()
@name_option
@render.output
def status(name: str, form: str) -> None:
    """What runs. Exit code 1 when it is not running."""
    from mizzen.embedded.clusters import status as cluster_status

    found = cluster_status(name)
    row = (found.name, found.state, found.address, found.api_url, found.context, "no" if found.rootless else "yes")
    render.show(form, found, ("NAME", "STATE", "ADDRESS", "API SERVER", "CONTEXT", "ROOT"), [row], padding=3)
    if found.state != "Running":
        raise click.exceptions.Exit(exits.FAILED)
