"""Draws by chance, the same ones from the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from mizzen.api.base import Duration

T = TypeVar("T")


class Dice:
    """Draws; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def one(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def maybe(self, draw: Callable[[], T], odds: float = 0.4) -> T | None:
        return draw() if self._random.random() < odds else None

    def several(self, draw: Callable[[], T], most: int = 3, least: int = 0) -> tuple[T, ...]:
        return tuple(draw() for _ in range(self._random.randint(least, most)))

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def coin(self) -> bool:
        return self._random.random() < 0.5

    def duration(self) -> Duration:
        return Duration(milliseconds=self.number(1, 90_000))

    def word(self) -> str:
        return self.one(["alpha", "beta", "gamma", "delta", "x-version", "cookie", "user-agent"])

    def words(self) -> dict[str, str]:
        return {self.word(): self.one(["1", "two", "%REQ(x-a)%", "100%%", ""]) for _ in range(self.number(0, 3))}
