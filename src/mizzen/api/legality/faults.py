"""Fault injection."""

from __future__ import annotations

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.networking import FaultAbort, FaultDelay, HTTPFaultInjection, Percent
from mizzen.api.values import GRPC_STATUSES

_SMALLEST = 0.0001


def fault_injection(path: str, fault: HTTPFaultInjection | None) -> Findings:
    if fault is None:
        return
    if fault.abort is None and fault.delay is None:
        yield Finding(path, "a fault needs abort, delay or both")
    if fault.abort is not None:
        yield from _abort(f"{path}.abort", fault.abort)
    if fault.delay is not None:
        yield from _delay(f"{path}.delay", fault.delay)


def _abort(path: str, abort: FaultAbort) -> Findings:
    yield from _percentage(path, abort.percentage)
    if abort.http2_error is not None:
        yield Finding(
            f"{path}.http2Error", "aborting with an HTTP/2 error is not possible; use httpStatus or grpcStatus"
        )
    elif abort.grpc_status is not None:
        if abort.grpc_status not in GRPC_STATUSES:
            yield Finding(
                f"{path}.grpcStatus", f"{abort.grpc_status!r} is not a gRPC status; write for example NOT_FOUND"
            )
    elif abort.http_status is None:
        yield warning(path, "abort configured, but error type not set: add httpStatus or grpcStatus")
    elif not 200 <= abort.http_status <= 600:
        yield Finding(f"{path}.httpStatus", f"{abort.http_status} is not an HTTP status from 200 to 599")


def _delay(path: str, delay: FaultDelay) -> Findings:
    yield from _percentage(path, delay.percentage)
    if delay.exponential_delay is not None:
        yield Finding(f"{path}.exponentialDelay", "exponentialDelay is not possible; use fixedDelay")


def _percentage(path: str, percentage: Percent | None) -> Findings:
    if percentage is not None and percentage.value != 0 and not _SMALLEST <= percentage.value <= 100:
        yield Finding(f"{path}.percentage.value", f"{percentage.value} is neither 0 nor from {_SMALLEST} to 100")
