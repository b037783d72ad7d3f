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
    from mizzen.install.options import InvalidOption, read_options

    try:
        return read_options(sets, [text for _, text in files.texts(names)])
    except InvalidOption as error:
        raise exits.Failure(str(error), "`mizzen manifest generate` with the same flags shows what they do") from error


def profile_of(sets: tuple[str, ...]) -> str:
    return next(
        (value for key, _, value in (one.partition("=") for one in reversed(sets)) if key == "profile"), "default"
    )


@click.command()
@install_options
@click.option("-y", "--skip-confirmation", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--readiness-timeout", default="300s", show_default=True, help="How long to wait for Pods.")
@where
def command(
    sets: tuple[str, ...],
    names: tuple[str, ...],
    skip_confirmation: bool,
    dry_run: bool,
    readiness_timeout: str,
    where: Where,
) -> None:
    """Install the mesh, or change the one that is installed."""
    from mizzen.api.base import Duration
    from mizzen.install.apply import install

    options = options_of(sets, names)
    limit = Duration.parse(readiness_timeout).total_seconds()
    if not (skip_confirmation or dry_run):
        question = f'This will install the Mizzen {__version__} profile "{profile_of(sets)}" into the cluster. Proceed?'
        if not click.confirm(question, err=True):
            raise exits.Failure("cancelled", "-y does not ask")
    with_api(where, lambda api: install(api, options, talk.say, timeout=limit, dry_run=dry_run))
