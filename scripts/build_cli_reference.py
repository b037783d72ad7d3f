"""Writes docs/reference/cli.md; `--check` only says whether it is up to date (exit code 1 when it is not)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from mizzen.cli.main import LOOK, MESH, MORE, START, VERBS, command

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/cli.md"
HEAD = """\
# Commands

Generated from the commands themselves by `scripts/build_cli_reference.py`. Names, flags, columns and words are
`istioctl`'s where it has them; `eval "$(mizzen env)"` puts a command named `istioctl` on the PATH that is this program.

* stdout is data; stderr is progress, remarks and questions. Listings take `-o json|yaml`. Colour only on a terminal,
  and never with `NO_COLOR`.
* Exit codes: 0 well; 1 failed, or (`status`, `doctor`, `proxy-status`, `cluster status`) something is not as it should
  be; 64 wrong usage; 65 a file that cannot be read as what it should be; 79 findings
  (`tls-check --if`: callers that would break); 130 Ctrl-C.
* `--debug` (or `MIZZEN_DEBUG=1`) shows the traceback of an error. `MIZZEN_CLUSTER` is the default of `--name`.
* Verbs that ask a cluster take `-c/--kubeconfig`, `--context`, `-n` and `-i`, before the verb or after it.
"""


def aliases(name: str) -> list[str]:
    module = VERBS[name].module
    return [other for other, verb in VERBS.items() if verb.module == module and not verb.section]


def chapters() -> Iterator[str]:
    for section in (START, MESH, LOOK, MORE):
        yield f"## {section}\n"
        for name, verb in VERBS.items():
            if verb.section == section:
                also = ", ".join(f"`{alias}`" for alias in aliases(name))
                yield f"### `mizzen {name}`\n" + (f"\nAlso: {also}.\n" if also else "")
                yield from pages(import_module(f"mizzen.cli.{verb.module}").command, f"mizzen {name}")


def pages(found: click.Command, path: str) -> Iterator[str]:
    """The help of a verb and of every verb inside it."""
    root = click.Context(command, info_name="mizzen", max_content_width=100, terminal_width=100)
    context = click.Context(found, parent=root, info_name=path.removeprefix("mizzen "), terminal_width=100)
    yield f"```\n{found.get_help(context)}\n```\n"
    if isinstance(found, click.Group):
        for name in found.list_commands(context):
            inner = found.get_command(context, name)
            if inner and not inner.hidden:
                yield from pages(inner, f"{path} {name}")


def page() -> str:
    return "\n".join((HEAD, *chapters()))


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
