"""`eval "$(mizzen env)"`: kubectl, istioctl and minikube mean this cluster."""

from __future__ import annotations

import shlex

import click

from mizzen.cli.clusters import name_option, paths_of
from mizzen.cli.shims import shims_folder, write_shims


@click.command()
@name_option
def command(name: str) -> None:
    """Print shell lines: KUBECONFIG, and a folder with istioctl and minikube in front of PATH."""
    shims = shims_folder()
    write_shims(shims)
    click.echo(f"export KUBECONFIG={shlex.quote(str(paths_of(name).kubeconfig))}")
    click.echo(f"export MIZZEN_CLUSTER={shlex.quote(name)}")
    click.echo(f'export PATH={shlex.quote(str(shims))}:"$PATH"')
