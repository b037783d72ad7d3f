"""`eval "$(mizzen env)"`: kubectl, istioctl and minikube mean this cluster."""

from __future__ import annotations

import shlex

import click

from mizzen.cli.clusters import name_option, paths_of
from mizzen.cli.shims import write_shims


@click.command()
@name_option
def command(name: str) -> None:
    """Print shell lines: KUBECONFIG, and a folder with istioctl and minikube in front of PATH."""
    paths = paths_of(name)
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    shims = paths.root / "bin"
    write_shims(shims)
    click.echo(f"export KUBECONFIG={shlex.quote(str(paths.kubeconfig))}")
    click.echo(f"export MIZZEN_CLUSTER={shlex.quote(name)}")
    click.echo(f'export PATH={shlex.quote(str(shims))}:"$PATH"')
