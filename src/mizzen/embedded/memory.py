"""What the processes of a box really weigh: proportional set size, in which shared pages are shared out (proc(5))."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """`pid` and every process below it, as this machine numbers them."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children[parent].append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        queue += children[one]
    return found


def pss_bytes(pid: int) -> int:
    """0 for a process that is gone or is not ours to see."""
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def by_program(pid: int) -> dict[str, int]:
    """PSS in bytes of a box whose pid 1 is `pid`: what part of it is Envoy, and what is the rest."""
    weights: dict[str, int] = defaultdict(int)
    for one in descendants(pid):
        weights["envoy" if _program(one) == "envoy" else "everything else"] += pss_bytes(one)
    return dict(weights)


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _program(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "exe").readlink().name
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
