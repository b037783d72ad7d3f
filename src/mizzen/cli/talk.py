"""What goes to stderr: progress, remarks and questions. Colour and moving lines only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mizzen.cli import exits


def say(message: str) -> None:
    click.echo(message, err=True)


def warn(message: str) -> None:
    click.secho(f"Warning: {message}", fg=colour("yellow"), err=True)


def error(message: str) -> None:
    click.secho(f"Error: {message}", fg=colour("red"), err=True)


def colour(name: str) -> str | None:
    """The colour, where stderr is a terminal that shows colours and nobody forbade them (NO_COLOR)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return name if sys.stderr.isatty() and not plain else None


def confirm(question: str) -> None:
    """Go on, or raise Failure. Where nobody is there to answer, the cure is to say so beforehand."""
    try:
        agreed = click.confirm(question, err=True, show_default=False, prompt_suffix=" (y/N) ")
    except click.Abort as abort:
        if sys.stdin.isatty():
            raise
        say("")
        raise exits.Failure("nobody answered the question", "-y does not ask") from abort
    if not agreed:
        raise exits.Failure("cancelled; nothing was changed", "-y does not ask")


@contextmanager
def working(doing: str) -> Iterator[Callable[[str], None]]:
    """On a terminal says what is being done for as long as it takes; yields a `say` whose lines stand above that."""
    terminal = sys.stderr.isatty()

    def show() -> None:
        if terminal:
            click.echo(f"\r\x1b[2K  {doing} …", err=True, nl=False)

    def clear() -> None:
        if terminal:
            click.echo("\r\x1b[2K", err=True, nl=False)

    def told(message: str) -> None:
        clear()
        say(message)
        show()

    show()
    try:
        yield told
    finally:
        clear()


@contextmanager
def step(doing: str, done: str = "") -> Iterator[None]:
    """Says what is being done on a terminal, and what was done with the seconds it took."""
    start = time.monotonic()
    with working(doing):
        yield
    say(f"✔ {done or doing} ({time.monotonic() - start:.1f} s)")
