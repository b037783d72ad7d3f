"""Rows of `proxy-config secret`, from dumps as Envoy writes them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from mizzen.ca.authority import new_root, sign_serving
from mizzen.explain.proxy_secrets import secrets

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ROOT = new_root("cluster.local", NOW, serial=0xABC)
KEY, CHAIN = sign_serving(ROOT, ["a.org"], NOW, serial=0xDEF, validity=timedelta(days=1))


def dump(**secrets_by_state: list[dict[str, Any]]) -> dict[str, Any]:
    return {"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", **secrets_by_state}]}


def inline(pem: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(pem).decode()}


def test_a_chain_is_one_row_and_says_whether_it_is_valid() -> None:
    pair = {"certificate_chain": inline(CHAIN), "private_key": inline(KEY)}
    found = dump(dynamic_active_secrets=[{"name": "default", "secret": {"tls_certificate": pair}}])
    (row,) = secrets(found, NOW)
    assert (row.name, row.type, row.status, row.valid) == ("default", "Cert Chain", "ACTIVE", True)
    assert (row.serial_number, row.identity, row.not_after) == ("def", "a.org", "2026-11-24T00:00:00Z")
    assert secrets(found, NOW + timedelta(days=2))[0].valid is False
    assert KEY.decode()[40:80] not in str(row)


def test_authorities_are_a_row_each_and_what_is_waited_for_says_so() -> None:
    both = ROOT.to_pem()[0] + new_root("old", NOW, serial=0x123).to_pem()[0]
    found = dump(
        dynamic_active_secrets=[{"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": inline(both)}}}],
        dynamic_warming_secrets=[{"name": "kubernetes://c", "secret": {"name": "kubernetes://c"}}],
    )
    rows = [(row.name, row.type, row.status, row.serial_number) for row in secrets(found, NOW)]
    assert rows == [
        ("ROOTCA", "CA", "ACTIVE", "123"),
        ("ROOTCA", "CA", "ACTIVE", "abc"),
        ("kubernetes://c", "Cert Chain", "WARMING", ""),
    ]
