"""JSON paths as users read them: `spec.http[0].match[0].headers["x-version"].exact`."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_LAST = re.compile(r'(?:\.?[A-Za-z_][A-Za-z0-9_-]*|\[\d+\]|\[\.\.\.\]|\["(?:[^"\\]|\\.)*"\])\Z')


def join(path: str, part: str | int) -> str:
    """`path` with one more step: a list index, or a key (quoted when it is not a plain word)."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    if not _PLAIN.match(part):
        escaped = part.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{escaped}"]'
    return f"{path}.{part}" if path else part


def parent(path: str) -> str:
    """The path without its last step; "" is the whole document."""
    step = _LAST.search(path)
    return path[: step.start()] if step else ""
