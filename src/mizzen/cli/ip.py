"""`mizzen ip`: where NodePorts answer."""

from __future__ import annotations

import click

from mizzen.cli.clusters import name_option, running_cluster


@click.command()
@name_option
def command(name: str) -> None:
    """Print the cluster's address: `curl http://$(mizzen ip):NODEPORT`."""
    click.echo(running_cluster(name).address)
