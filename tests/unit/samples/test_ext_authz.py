"""The sample authorizer speaks Envoy's messages."""

from __future__ import annotations

import pytest

from mizzen.envoy.messages import message
from mizzen.samples.ext_authz import RESULT, check

FILE = "envoy/service/auth/v3/external_auth.proto"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-ext-authz": "allow"}, 0),
        ({"x-ext-authz": "allow", "x-long": "a" * 300}, 0),
        ({"x-ext-authz": "deny"}, 7),
        ({"x-other": "allow"}, 7),
        ({}, 7),
    ],
)
def test_who_says_so_is_allowed(headers: dict[str, str], code: int) -> None:
    http = {"method": "GET", "size": 5, "headers": headers}
    source = {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}}
    attributes = {"source": source, "request": {"time": {"seconds": 5}, "http": http}}
    asked = message("envoy.service.auth.v3.CheckRequest", FILE)(attributes=attributes)
    answer = message("envoy.service.auth.v3.CheckResponse", FILE).FromString(check(asked.SerializeToString()))
    assert answer.status.code == code
    told = answer.denied_response if code else answer.ok_response
    assert [(one.header.key, one.header.value) for one in told.headers] == [(RESULT, "denied" if code else "allowed")]
    assert not code or answer.denied_response.status.code == 403
