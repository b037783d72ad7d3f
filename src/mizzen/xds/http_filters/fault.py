"""https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/fault_filter"""

from __future__ import annotations

from typing import Any

from mizzen.api.networking import FaultAbort, FaultDelay, HTTPFaultInjection, Percent
from mizzen.api.values import GRPC_STATUSES
from mizzen.envoy.messages import HTTPFault, HttpFilter, Message, typed
from mizzen.xds.percentages import fractional_percent

NAME = "envoy.filters.http.fault"

GRPC_CODES = {name: code for code, name in enumerate(GRPC_STATUSES)}
"""https://grpc.io/docs/guides/status-codes/, in order of their numbers."""


def http_filter(*, disabled: bool = False) -> Message:
    """Idle until a route says something; `disabled`: not even made until then."""
    return HttpFilter(**typed(NAME, HTTPFault()), disabled=disabled)


def http_fault(fault: HTTPFaultInjection) -> Message:
    return HTTPFault(
        delay=fault.delay and _fault_delay(fault.delay),
        abort=fault.abort and _fault_abort(fault.abort),
    )


def _fault_delay(delay: FaultDelay) -> dict[str, Any] | None:
    """An exponential delay is not something Envoy does. An absent percentage is 0: it never fires, as in Istio."""
    if not delay.fixed_delay:
        return None
    return {
        "fixed_delay": delay.fixed_delay,
        "percentage": fractional_percent(delay.percentage or Percent(value=delay.percent)),
    }


def _fault_abort(abort: FaultAbort) -> dict[str, Any] | None:
    """`http2Error` is not something Envoy does."""
    if abort.http_status is None and abort.grpc_status is None:
        return None
    return {
        "http_status": abort.http_status,
        "grpc_status": None if abort.grpc_status is None else GRPC_CODES[abort.grpc_status],
        "percentage": fractional_percent(abort.percentage or Percent()),
    }
