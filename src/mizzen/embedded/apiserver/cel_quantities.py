"""CEL's `quantity`: an exact number, written as a map so that equal amounts are equal values.

https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-quantity-library
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from mizzen.embedded.apiserver.validation_pod import amount

Quantity = dict[str, str]
_KEY = "quantity"


def _quantity(text: Any) -> Quantity:
    """Raises ValueError."""
    return {_KEY: str(amount(text))}


def _number(value: Any) -> Fraction:
    if not isinstance(value, dict) or _KEY not in value:
        raise ValueError(f"{value!r} is no quantity")
    return Fraction(value[_KEY])


def _other(value: Any) -> Fraction:
    return Fraction(value) if isinstance(value, int) else _number(value)


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


def _integer(value: Quantity) -> int:
    number = _number(value)
    if number.denominator != 1:
        raise ValueError("cannot convert value to integer")
    return int(number)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantity": _quantity,
    "add": lambda one, other: {_KEY: str(_number(one) + _other(other))},
    "sub": lambda one, other: {_KEY: str(_number(one) - _other(other))},
    "asApproximateFloat": lambda value: float(_number(value)),
    "asInteger": _integer,
    "compareTo": lambda one, other: _sign(_number(one) - _number(other)),
    "isGreaterThan": lambda one, other: _number(one) > _number(other),
    "isInteger": lambda value: _number(value).denominator == 1,
    "isLessThan": lambda one, other: _number(one) < _number(other),
    "sign": lambda value: _sign(_number(value)),
}
