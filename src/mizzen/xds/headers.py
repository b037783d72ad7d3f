"""Header changes on routes and weighted clusters.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/headers#custom-request-response-headers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mizzen.api.networking import HeaderOperations, Headers
from mizzen.envoy.messages import HeaderValueOption, Message

_NOTHING = HeaderOperations()


def header_mutations(*changes: Headers | None) -> dict[str, Any]:
    """The four fields that Route and ClusterWeight share; later changes are applied after earlier ones."""
    requests = [change.request or _NOTHING for change in changes if change]
    responses = [change.response or _NOTHING for change in changes if change]
    return {
        "request_headers_to_add": [option for change in requests for option in _header_value_options(change)],
        "request_headers_to_remove": [name for change in requests for name in _ordinary(change.remove)],
        "response_headers_to_add": [option for change in responses for option in _header_value_options(change)],
        "response_headers_to_remove": [name for change in responses for name in _ordinary(change.remove)],
    }


def authority(change: Headers | None) -> str | None:
    """What `host` or `:authority` in a request's set or add means: a rewrite. `set` wins."""
    if change is None or change.request is None:
        return None
    return _authority(change.request.set) or _authority(change.request.add)


def _authority(headers: Mapping[str, str]) -> str | None:
    return next((value for name, value in sorted(headers.items()) if name.lower() in (":authority", "host")), None)


def _header_value_options(change: HeaderOperations) -> list[Message]:
    return [
        *(_header_value_option(name, change.set[name], "OVERWRITE_IF_EXISTS_OR_ADD") for name in _ordinary(change.set)),
        *(_header_value_option(name, change.add[name], "APPEND_IF_EXISTS_OR_ADD") for name in _ordinary(change.add)),
    ]


def _header_value_option(name: str, value: str, action: str) -> Message:
    return HeaderValueOption(header={"key": name, "value": value}, append_action=action)


def _ordinary(names: Iterable[str]) -> list[str]:
    """Without those that Envoy does not let a route change; sorted, as a map has no order."""
    kept = [name for name in names if not name.startswith(":") and name.lower() != "host"]
    return sorted(kept)
