"""Doing the same to many objects, a few at first: what fails for one mostly fails for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mizzen.kube.api import ApiError

T = TypeVar("T")


async def in_growing_batches(items: list[T], act: Callable[[T], Awaitable[object]]) -> ApiError | None:
    """Acts on 1, 2, 4 … items at a time and stops after a batch with an error, which it returns."""
    size, start = 1, 0
    while start < len(items):
        batch = items[start : start + size]
        answers = await asyncio.gather(*map(act, batch), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if not isinstance(failure, ApiError):
                raise failure
            return failure
        start, size = start + size, size * 2
    return None
