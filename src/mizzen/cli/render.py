"""What goes to stdout: tables as Istio draws them, JSON and YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

FORMATS = click.Choice(["table", "short", "json", "yaml"])


def _form(_: click.Context, __: click.Parameter, chosen: str) -> str:
    """`short` is istioctl's other word for a table."""
    return "table" if chosen == "short" else chosen


output = click.option(
    "-o",
    "--output",
    "form",
    type=FORMATS,
    metavar="table|json|yaml",
    default="table",
    callback=_form,
    help="How to print.",
)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], padding: int = 5) -> str:
    """Left-aligned columns, `padding` spaces between them, as Go's tabwriter does; empty cells print as `-`."""
    cells = [list(header), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = (
        "".join(cell.ljust(width + padding) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """Typed rows as JSON values."""
    return msgspec.to_builtins(value)


def as_json(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def as_yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True).rstrip()


def show(form: str, value: Any, header: Sequence[str], rows: Iterable[Sequence[str]], padding: int = 5) -> None:
    """Print `value` as json or yaml, or `rows` as a table."""
    match form:
        case "json":
            click.echo(as_json(value))
        case "yaml":
            click.echo(as_yaml(value))
        case _:
            click.echo(table(header, rows, padding))
