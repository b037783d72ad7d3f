"""Which requests are tried again.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto#config-route-v3-retrypolicy
"""

from __future__ import annotations

from http import HTTPStatus

from mizzen.api.networking import HTTPRetry
from mizzen.envoy.messages import (
    Message,
    PreviousHostsPredicate,
    PreviousPrioritiesConfig,
    RetryPolicy,
    optional,
    typed,
)

DEFAULT_ATTEMPTS = 2
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""No status code is listed, so an application's own 503 is not retried."""
INBOUND_RETRY_ON = "reset-before-request"
"""The application closed an idle connection while a request was on its way: it has not seen it."""
_CODES = "retriable-status-codes"


def retry_policy(retry: HTTPRetry | None, *, hashed: bool = False) -> Message | None:
    """`retry` None: Istio's default. `hashed`: the host is chosen by the request, another one would be wrong."""
    if retry is not None and retry.attempts <= 0:
        return None
    wanted = retry or HTTPRetry(attempts=DEFAULT_ATTEMPTS)
    ignore_previous = wanted.retry_ignore_previous_hosts
    retry_on, codes = _conditions(wanted.retry_on or DEFAULT_RETRY_ON)
    return RetryPolicy(
        num_retries=optional(wanted.attempts),
        retry_on=retry_on,
        retriable_status_codes=codes,
        per_try_timeout=wanted.per_try_timeout,
        host_selection_retry_max_attempts=5,
        retry_host_predicate=[_previous_hosts()]
        if (not hashed if ignore_previous is None else ignore_previous)
        else (),
        retry_priority=_previous_priorities() if wanted.retry_remote_localities else None,
        retry_back_off={"base_interval": wanted.backoff} if wanted.backoff else None,
    )


def inbound_retry_policy(retry: HTTPRetry | None) -> Message | None:
    """There is one application behind an inbound route, so choosing hosts has no meaning."""
    if retry is not None and retry.attempts <= 0:
        return None
    wanted = retry or HTTPRetry(attempts=DEFAULT_ATTEMPTS)
    retry_on, codes = _conditions(wanted.retry_on or INBOUND_RETRY_ON)
    return RetryPolicy(
        num_retries=optional(wanted.attempts),
        retry_on=retry_on,
        retriable_status_codes=codes,
        retry_back_off={"base_interval": wanted.backoff} if wanted.backoff else None,
    )


def _conditions(retry_on: str) -> tuple[str, list[int]]:
    """Numbers in the list are status codes; they need a condition of their own."""
    words = [word.strip() for word in retry_on.split(",") if word.strip()]
    codes = [int(word) for word in words if _is_status(word)]
    names = [word for word in words if not _is_status(word)]
    return ",".join([*names, _CODES] if codes and _CODES not in names else names), codes


def _is_status(word: str) -> bool:
    return word.isdigit() and int(word) in set(HTTPStatus)


def _previous_hosts() -> dict[str, object]:
    return typed("envoy.retry_host_predicates.previous_hosts", PreviousHostsPredicate())


def _previous_priorities() -> dict[str, object]:
    return typed("envoy.retry_priorities.previous_priorities", PreviousPrioritiesConfig(update_frequency=2))
