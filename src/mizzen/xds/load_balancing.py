"""Which endpoint a request goes to.

https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/load_balancers
"""

from __future__ import annotations

from typing import Any

from mizzen.api.networking import ConsistentHashLB, LoadBalancerSettings, Warmup
from mizzen.envoy.messages import optional

_NOTHING = LoadBalancerSettings()
_DEFAULT_RING = 1024


def passes_through(settings: LoadBalancerSettings | None) -> bool:
    """`simple: PASSTHROUGH`: the address that the application dialled."""
    return settings is not None and settings.simple == "PASSTHROUGH"


def load_balancing(settings: LoadBalancerSettings | None) -> dict[str, Any]:
    """The cluster's fields for it. LEAST_CONN is the old name of LEAST_REQUEST, which is also the default."""
    wanted = settings or _NOTHING
    if wanted.consistent_hash:
        return _consistent_hash(wanted.consistent_hash)
    slow_start = _slow_start_config(wanted)
    match wanted.simple:
        case "RANDOM":
            return {"lb_policy": "RANDOM"}
        case "ROUND_ROBIN":
            return {"lb_policy": "ROUND_ROBIN", "round_robin_lb_config": slow_start}
        case _:
            return {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": slow_start}


def _consistent_hash(hash: ConsistentHashLB) -> dict[str, Any]:
    if hash.maglev:
        size = optional(hash.maglev.table_size or None)
        return {"lb_policy": "MAGLEV", "maglev_lb_config": size and {"table_size": size}}
    asked = hash.ring_hash.minimum_ring_size if hash.ring_hash else hash.minimum_ring_size or _DEFAULT_RING
    return {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": optional(asked or None)}}


def _slow_start_config(settings: LoadBalancerSettings) -> dict[str, Any] | None:
    """New endpoints get their share little by little."""
    if settings.warmup:
        return {"slow_start_config": _warmup(settings.warmup)}
    if settings.warmup_duration_secs:
        return {"slow_start_config": {"slow_start_window": settings.warmup_duration_secs}}
    return None


def _warmup(warmup: Warmup) -> dict[str, Any]:
    aggression = 1.0 if warmup.aggression is None else warmup.aggression
    minimum = 10.0 if warmup.minimum_percent is None else warmup.minimum_percent
    return {
        "slow_start_window": warmup.duration,
        "aggression": {"default_value": aggression, "runtime_key": "mizzen.slow_start.aggression"},
        "min_weight_percent": {"value": minimum},
    }
