"""Arguments as istioctl's users write them, turned into what click reads: `--browser=false`, `-o=json`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

SWITCHES = frozenset(("browser", "verbose", "remote", "referential"))
"""Flags that are on unless said otherwise."""
FLAGS = frozenset(("purge", "dry-run", "skip-confirmation", "short", "debug"))
_SWITCH = re.compile(r"--(?P<name>[a-z-]+)=(?P<value>true|false)")
_SHORT = re.compile(r"-(?P<name>[a-zA-Z])=(?P<value>.*)", re.DOTALL)


def normal(arguments: Iterable[str]) -> Iterator[str]:
    """The same arguments without Go's `=` where click knows none. What follows `--` stays as it is."""
    rest = iter(arguments)
    for argument in rest:
        yield from _normal(argument)
        if argument == "--":
            yield from rest


def _normal(argument: str) -> Iterator[str]:
    switch = _SWITCH.fullmatch(argument)
    if switch and switch["name"] in SWITCHES | FLAGS:
        if switch["value"] == "true":
            yield f"--{switch['name']}"
        elif switch["name"] in SWITCHES:
            yield f"--no-{switch['name']}"
    elif short := _SHORT.fullmatch(argument):
        yield from (f"-{short['name']}", short["value"])
    else:
        yield argument
