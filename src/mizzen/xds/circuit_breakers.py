"""How much at once.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/cluster/v3/circuit_breaker.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.api.networking import ConnectionPoolSettings, HTTPSettings, RetryBudget, TCPSettings

UNLIMITED = 2**32 - 1


def circuit_breakers(pool: ConnectionPoolSettings | None, budget: RetryBudget | None) -> dict[str, Any]:
    """0 is unset, and unset is no limit (Envoy's own default would be 1024). Applies to each proxy on its own."""
    tcp = (pool and pool.tcp) or TCPSettings()
    http = (pool and pool.http) or HTTPSettings()
    limits = {
        "max_connections": tcp.max_connections,
        "max_pending_requests": http.http1_max_pending_requests,
        "max_requests": http.http2_max_requests,
        "max_retries": http.max_retries,
    }
    return {
        "thresholds": [
            {
                **{name: {"value": limit if limit > 0 else UNLIMITED} for name, limit in limits.items()},
                "track_remaining": True,
                "retry_budget": budget and _retry_budget(budget),
            }
        ]
    }


def _retry_budget(budget: RetryBudget) -> dict[str, Any]:
    return {
        "budget_percent": {"value": 20.0 if budget.percent is None else budget.percent},
        "min_retry_concurrency": {"value": budget.min_retry_concurrency or 3},
        "budget_interval": budget.budget_interval,
    }
