"""How kubectl's tables write times, lists and maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mizzen.kube.api import JSON

Cell = Callable[[JSON, datetime], object]
NONE, UNKNOWN, UNSET = "<none>", "<unknown>", "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `priority` 1 is shown by `-o wide` only."""

    name: str
    cell: Cell
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> JSON:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description or self.name,
            "priority": self.priority,
        }


def text(name: str, cell: Callable[[JSON], object], priority: int = 0) -> Column:
    """A column that does not depend on the time."""
    return Column(name, lambda obj, _: cell(obj), priority=priority)


def number(name: str, cell: Callable[[JSON], object], priority: int = 0) -> Column:
    return Column(name, lambda obj, _: cell(obj), type="integer", priority=priority)


NAME = Column("Name", lambda obj, _: obj["metadata"]["name"], format="name", description="the object's name")


def parse_time(value: str | None) -> datetime | None:
    if not value:
        return None
    return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)


def age(value: str | None, now: datetime) -> str:
    """How long ago, or `<unknown>`."""
    then = parse_time(value)
    return UNKNOWN if then is None else duration((now - then).total_seconds())


def duration(seconds: float) -> str:
    """As `duration.HumanDuration` of k8s.io/apimachinery writes it: two units at most, fewer as it grows."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60 * 2:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 60 * 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def at(obj: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return obj


def count(obj: JSON, path: str) -> int:
    """A number at a path, 0 if absent; for a list or map its length."""
    value = at(obj, path)
    return len(value) if isinstance(value, (list, dict)) else int(value or 0)


def joined(values: Iterable[object]) -> str:
    return ",".join(str(value) for value in values) or NONE


def labels(value: Mapping[str, str] | None) -> str:
    return joined(f"{key}={each}" if each else key for key, each in sorted((value or {}).items()))


_OPERATORS = {"In": "{} in ({})", "NotIn": "{} notin ({})", "Exists": "{}", "DoesNotExist": "!{}"}


def selector(value: JSON | None) -> str:
    """A LabelSelector on one line."""
    value = value or {}
    parts = [f"{key}={each}" for key, each in sorted((value.get("matchLabels") or {}).items())]
    expressions = value.get("matchExpressions") or ()
    parts += [_OPERATORS[e["operator"]].format(e["key"], ",".join(e.get("values") or ())) for e in expressions]
    return joined(parts)


def containers(spec: JSON | None) -> tuple[str, str]:
    """Names and images of a Pod template, each on one line."""
    found = (spec or {}).get("containers") or ()
    return joined(each["name"] for each in found), joined(each.get("image", "") for each in found)
