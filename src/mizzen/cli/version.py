"""`mizzen version`: of this program, of istiod, and of the proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from mizzen import __version__
from mizzen.cli import render, talk
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi


class Versions(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    client_version: str
    mesh_version: tuple[str, ...] = ()
    data_plane_version: dict[str, int] = {}
    """Version to number of proxies."""


@click.command()
@click.option("--remote/--no-remote", default=True, help="Also ask the cluster.")
@click.option("-s", "--short", is_flag=True, help="Only the number of this program.")
@render.output
@where
def command(remote: bool, short: bool, form: str, where: Where) -> None:
    """Versions of client, control plane and proxies."""
    versions = Versions(__version__)
    if remote and not short:
        versions = remote_versions(where)
    if form != "table":
        render.show(form, versions, (), ())
        return
    click.echo(__version__ if short else f"client version: {versions.client_version}")
    for one in versions.mesh_version:
        click.echo(f"control plane version: {one}")
    for one, count in versions.data_plane_version.items():
        click.echo(f"data plane version: {one} ({count} proxies)")


def remote_versions(where: Where) -> Versions:
    """What the cluster says; without one only our own, with a remark."""
    from mizzen.kube.api import Unreachable
    from mizzen.kube.config import ConfigError

    try:
        return with_api(where, lambda api: ask(api, where.istio_namespace))
    except (Unreachable, ConfigError) as error:
        talk.warn(f"no cluster to ask: {' '.join(str(error).split())}")
        return Versions(__version__)


async def ask(api: HttpApi, namespace: str) -> Versions:
    from mizzen.explain.proxy_status import proxy_versions
    from mizzen.kube.api import WELL_KNOWN, Selector

    pods = (await api.list(WELL_KNOWN.pods, namespace, Selector(labels="app=istiod"))).items
    images = {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods}
    return Versions(__version__, tuple(sorted(images)), await proxy_versions(api, namespace))
