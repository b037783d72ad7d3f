"""Kubernetes quantities: "250m", "1.5", "128Mi", "1e3". Pure.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import math
from fractions import Fraction

_SUFFIXES: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    **{name: Fraction(10 ** (3 * power)) for power, name in enumerate("kMGTPE", start=1)},
    **{f"{name}i": Fraction(2 ** (10 * power)) for power, name in enumerate("KMGTPE", start=1)},
}


def parse(text: str | float) -> Fraction:
    """The exact value. Raises ValueError for anything else."""
    written = str(text).strip()
    number = written.rstrip("numkKMGTPEi")
    try:
        return Fraction(number) * _SUFFIXES[written[len(number) :]]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{text!r} is no quantity") from error


def divided(text: str | float, divisor: str | float) -> int:
    """`text` in units of `divisor`, rounded up, as the downward API writes it; a divisor of 0 means 1."""
    unit = parse(divisor or 1) or Fraction(1)
    return math.ceil(parse(text) / unit)
