"""What all benches share: percentiles, one table, one JSON form, what the machine was doing meanwhile."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

PYTHON = sys.executable
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `limit` is the target: at most that, or at least when `at_least`."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        kept = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "ok" if kept else "MISSED"

    @property
    def target(self) -> str:
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}".rstrip()


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(round(share * len(ordered), 6)) - 1)]


def spread(name: str, seconds: Sequence[float], limit_p99: float | None = None) -> list[Row]:
    """p50, p99 and the worst, in milliseconds."""
    milliseconds = [value * 1e3 for value in seconds]
    return [
        Row(f"{name}, p50", median(milliseconds), "ms"),
        Row(f"{name}, p99", percentile(milliseconds, 0.99), "ms", limit_p99),
        Row(f"{name}, worst of {len(milliseconds)}", max(milliseconds), "ms"),
    ]


def tell(rows: Sequence[Row], as_json: bool) -> None:
    """Print the figures, with the load of the machine beside them."""
    load = os.getloadavg()[0]
    if as_json:
        told = [{"name": one.name, "value": one.value, "unit": one.unit, "target": one.target} for one in rows]
        print(json.dumps({"cores": os.cpu_count(), "load": load, "figures": told}, indent=1, ensure_ascii=False))
        return
    width = max(len(one.name) for one in rows)
    for one in rows:
        print(f"{one.name:<{width}}  {one.value:>12,.2f} {one.unit:<6} {one.target:<14} {one.verdict}".rstrip())
    print(f"({os.cpu_count()} cores, load average {load:.1f} over the last minute)")


def quiet_environment(**more: str) -> Mapping[str, str]:
    """The environment for what is measured: compiled once, as after an ordinary installation."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **more}


def resident_megabytes(pid: int | str = "self") -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """User and system time of a process of ours, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
