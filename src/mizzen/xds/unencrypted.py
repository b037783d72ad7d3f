"""Counters of who calls without mesh TLS: what `tls-check` reads. Only such connections pay for them.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/access_loggers/stats/v3/stats.proto
A caller without a certificate has no name, so it is counted by its address. In Envoy's Prometheus page the counter is
`envoy_mizzen_unencrypted{seen,source,port}`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from mizzen.envoy.messages import AccessLog, Message, StatsAccessLog, optional, typed

PREFIX, COUNTER = "mizzen", "unencrypted"
PLAIN, OWN_TLS, REFUSED = "plaintext", "own TLS", "refused"
"""Read as it came; passed on undecrypted; turned away, because no filter chain takes it."""
_MOST_CALLERS = 1000
"""Addresses times ports, in each proxy: beyond them nobody new is counted, so that memory stays bounded."""
_TAGS = {"source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "port": "%DOWNSTREAM_LOCAL_PORT%"}


@cache
def requests(seen: str) -> Message:
    """Counts each request."""
    return AccessLog(**_counter(seen))


@cache
def connections(seen: str) -> Message:
    """Counts each connection when it has reached the application, so that those still open count, too."""
    return AccessLog(**_counter(seen), filter=_only("TcpUpstreamConnected"))


@cache
def refusals() -> Message:
    """Counts connections that no filter chain takes."""
    return AccessLog(**_counter(REFUSED), filter={"response_flag_filter": {"flags": ["NR"]}})


def _only(kind: str) -> dict[str, Any]:
    return {"log_type_filter": {"types": [kind]}}


def _counter(seen: str) -> dict[str, Any]:
    tags = [{"name": "seen", "value_format": seen}, *({"name": name, "value_format": f} for name, f in _TAGS.items())]
    counter = {"stat": {"name": COUNTER, "tags": tags}, "value_fixed": optional(1)}
    scope = {"prefix": PREFIX, "max_counters": optional(_MOST_CALLERS)}
    return typed("envoy.access_loggers.stats", StatsAccessLog(stats_scope=scope, counters=[counter]))
