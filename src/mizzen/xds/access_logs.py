"""One line per request, connection, or refused connection.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage
"""

from __future__ import annotations

from typing import Any

from msgspec import DecodeError, json

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import AccessLog, FileAccessLog, Message, typed
from mizzen.xds.kept import kept

TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
JSON = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}


@kept
def access_log(mesh: MeshConfig, ends_only: bool = False) -> list[Message]:
    """Of HTTP requests and TCP connections; empty when the mesh names no file.

    `ends_only`: for connections whose other loggers are told of their beginning, too.
    """
    if not mesh.access_log_file:
        return []
    only = {"log_type_filter": {"types": ["TcpConnectionEnd"]}} if ends_only else None
    return [AccessLog(**_file(mesh), filter=only)]


@kept
def listener_access_log(mesh: MeshConfig) -> list[Message]:
    """Of connections that no filter chain takes: nothing else would show them."""
    if not mesh.access_log_file or mesh.disable_envoy_listener_log:
        return []
    return [AccessLog(**_file(mesh), filter={"response_flag_filter": {"flags": ["NR"]}})]


def _file(mesh: MeshConfig) -> dict[str, Any]:
    log = FileAccessLog(path=mesh.access_log_file, log_format=_log_format(mesh))
    return typed("envoy.access_loggers.file", log)


def _log_format(mesh: MeshConfig) -> dict[str, Any]:
    if mesh.access_log_encoding == "JSON":
        return {"json_format": _json_fields(mesh.access_log_format)}
    text = mesh.access_log_format or TEXT
    return {"text_format_source": {"inline_string": text if text.endswith("\n") else f"{text}\n"}}


def _json_fields(text: str) -> dict[str, Any]:
    """A format that is no JSON object is what the mesh's validation reports; requests are logged all the same."""
    try:
        return json.decode(text, type=dict[str, Any]) if text else dict(JSON)
    except DecodeError:
        return dict(JSON)
