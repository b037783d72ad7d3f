"""Cron expressions: minute, hour, day of month, month, day of week. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_HORIZON = timedelta(days=5 * 366)


@dataclass(frozen=True, slots=True)
class Schedule:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`, in the same zone; None if there is none within five years."""
        time = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = time + _HORIZON
        while time < end:
            if time.month not in self.months or not self._on(time):
                time = (time + timedelta(days=1)).replace(hour=0, minute=0)
            elif time.hour not in self.hours:
                time = (time + timedelta(hours=1)).replace(minute=0)
            elif time.minute not in self.minutes:
                time += timedelta(minutes=1)
            else:
                return time
        return None

    def _on(self, time: datetime) -> bool:
        """When both days are restricted, either will do: cron's old rule."""
        day, weekday = time.day in self.days, time.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return day and weekday
        return day or weekday


def parse(text: str) -> Schedule:
    """Raises ValueError."""
    fields = MACROS.get(text.strip(), text).lower().split()
    if len(fields) != 5:
        raise ValueError(f"{text!r} is not a schedule: five fields are needed, such as `*/5 * * * *`")
    minute, hour, day, month, weekday = fields
    return Schedule(
        _values(minute, 0, 59),
        _values(hour, 0, 23),
        _values(day, 1, 31),
        _values(month, 1, 12, _MONTHS, 1),
        frozenset(value % 7 for value in _values(weekday, 0, 7, _DAYS, 0)),
        any_day=day[0] in "*?",
        any_weekday=weekday[0] in "*?",
    )


def _values(field: str, low: int, high: int, names: list[str] | None = None, first: int = 0) -> frozenset[int]:
    def number(text: str) -> int:
        return names.index(text) + first if names and text in names else int(text)

    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            start, end = low, high
        else:
            left, _, right = span.partition("-")
            start = number(left)
            end = number(right) if right else high if step else start
        if not low <= start <= end <= high:
            raise ValueError(f"{field!r} is out of range {low}-{high}")
        found.update(range(start, end + 1, int(step) if step else 1))
    return frozenset(found)
