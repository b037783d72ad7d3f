"""`mizzen install`: the mesh into whatever cluster the kubeconfig names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from mizzen import __version__
from mizzen.cli import exits, files, talk
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.install.options import Options

P = ParamSpec("P")
R = TypeVar("R")


def install_options(function: Callable[P, R]) -> Callable[P, R]:
    """`--set` and `-f`, as istioctl has them; the verb gets `sets` and `names`."""
    with_files = click.option("-f", "--filename", "names", multiple=True, help="IstioOperator YAML.")(function)
    return click.option("-s", "--set", "sets", multiple=True, metavar="PATH=VALUE", help="profile=demo, meshConfig.…")(
        with_files
    )


def options_of(sets: tuple[str, ...], names: tuple[str, ...]) -> Options:
    """Raises Failure; warns of mesh settings that have no effect."""
    from mizzen.api.ignored_mesh import ISTIOD_VARIABLES, without_effect
    from mizzen.install.options import InvalidOption, read_options

    try:
        options = read_options(sets, [text for _, text in files.texts(names)])
    except InvalidOption as error:
        hint = "`mizzen manifest generate` with the same flags shows what they do"
        raise exits.Failure(str(error), hint) from error
    for path, reason in without_effect(options.mesh_config):
        talk.warn(f"meshConfig.{path} is legal in Istio, but has no effect in this version: {reason}")
    for name in sorted(options.values.pilot.env.keys() - ISTIOD_VARIABLES):
        talk.warn(f"values.pilot.env.{name} has no effect: istiod reads {', '.join(sorted(ISTIOD_VARIABLES))}")
    return options


def seconds(_: click.Context, __: click.Parameter, text: str) -> float:
    from mizzen.api.base import Duration

    try:
        return float(Duration.parse(text).total_seconds())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@install_options
@click.option("-y", "--skip-confirmation", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--readiness-timeout",
    "limit",
    default="300s",
    show_default=True,
    callback=seconds,
    help="How long to wait for Pods.",
)
@where
def command(
    sets: tuple[str, ...],
    names: tuple[str, ...],
    skip_confirmation: bool,
    dry_run: bool,
    limit: float,
    where: Where,
) -> None:
    """Install the mesh, or change the one that is installed."""
    from mizzen.install.apply import install

    options = options_of(sets, names)
    if not (skip_confirmation or dry_run):
        talk.confirm(
            f'This will install the Mizzen {__version__} profile "{options.profile}" into the cluster. Proceed?'
        )
    with talk.working("Installing") as say:
        with_api(where, lambda api: install(api, options, say, timeout=limit, dry_run=dry_run))
    if dry_run:
        talk.say("This was a dry run: nothing was changed")
