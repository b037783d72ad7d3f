"""What goes to stderr: progress and remarks. Colour and moving lines only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click


def say(message: str) -> None:
    click.echo(message, err=True)


def warn(message: str) -> None:
    click.secho(f"Warning: {message}", fg="yellow" if sys.stderr.isatty() else None, err=True)


@contextmanager
def step(doing: str, done: str = "") -> Iterator[None]:
    """Says what is being done on a terminal, and what was done with the seconds it took."""
    terminal = sys.stderr.isatty()
    if terminal:
        click.echo(f"  {doing} …\r", err=True, nl=False)
    start = time.monotonic()
    yield
    clear = "\r\x1b[2K" if terminal else ""
    click.echo(f"{clear}✔ {done or doing} ({time.monotonic() - start:.1f} s)", err=True)
