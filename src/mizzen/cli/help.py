"""`mizzen help [COMMAND …]`."""

from __future__ import annotations

import click


@click.command()
@click.argument("words", nargs=-1)
def command(words: tuple[str, ...]) -> None:
    """What a command does: the same as `mizzen COMMAND --help`."""
    from mizzen.cli.main import command as root

    root.main([*words, "--help"], prog_name="mizzen", standalone_mode=False)
