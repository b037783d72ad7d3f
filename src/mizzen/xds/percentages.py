"""Shares of traffic.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/type/v3/percent.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.api.networking import Percent


def fractional_percent(percent: Percent) -> dict[str, Any]:
    """To a ten-thousandth of a percent, which is as fine as Envoy counts."""
    return {"numerator": round(percent.value * 10_000), "denominator": "MILLION"}


def runtime_fractional_percent(percent: Percent) -> dict[str, Any]:
    return {"default_value": fractional_percent(percent)}
