"""Which endpoints are left out for a while.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/cluster/v3/outlier_detection.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.api.networking import OutlierDetection
from mizzen.envoy.messages import optional


def outlier_detection(outlier: OutlierDetection | None) -> dict[str, Any]:
    """The cluster's fields for it. `minHealthPercent` is Envoy's panic threshold: unset is 0, which is never."""
    if outlier is None:
        return {}
    return {
        "outlier_detection": {
            "enforcing_success_rate": optional(0),
            **_consecutive("5xx", outlier.consecutive_5xx_errors),
            **_consecutive("gateway_failure", outlier.consecutive_gateway_errors),
            "interval": outlier.interval,
            "base_ejection_time": outlier.base_ejection_time,
            "max_ejection_percent": optional(outlier.max_ejection_percent or None),
            **_local_origin(outlier),
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": float(max(0, outlier.min_health_percent))}},
    }


def _consecutive(kind: str, limit: int | None) -> dict[str, Any]:
    """0 turns the kind off, unset leaves Envoy's default."""
    if limit is None:
        return {}
    return {
        f"consecutive_{kind}": optional(limit),
        f"enforcing_consecutive_{kind}": optional(100 if limit else 0),
    }


def _local_origin(outlier: OutlierDetection) -> dict[str, Any]:
    if not outlier.split_external_local_origin_errors:
        return {}
    return {
        "split_external_local_origin_errors": True,
        "enforcing_local_origin_success_rate": optional(0),
        **_consecutive("local_origin_failure", outlier.consecutive_local_origin_failures or None),
    }
