"""Whose tokens are believed. No token passes; one that is not valid does not.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/jwt_authn_filter
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mizzen.api.authorization import JWTRule
from mizzen.api.legality.request_authentication import key_set
from mizzen.envoy.messages import HttpRbac, JwtAuthentication, Message
from mizzen.envoy.resources import Resource
from mizzen.scope.decision import ALWAYS_SPLIT
from mizzen.scope.guards import key_source
from mizzen.scope.model import Guards
from mizzen.xds.names import PAYLOAD
from mizzen.xds.slots import Slot

TOKENS = Slot("mizzen.tokens", HttpRbac(rules={"action": "ALLOW"}), others=(JwtAuthentication,))
"""Without its content nobody may pass: what is no valid token would count as none."""

NOBODYS_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "alg": "EdDSA",
    "kid": "nobody",
    "x": "CUyvf3A78Ld2eiwqPNrXdXHdFJrW5jAUPuN2X7I3PlY",
}
"""Verifies nothing: `x` is the SHA-256 of "nobody has the key to this". It is in every set: proxies refuse one without
a key that they understand, and would go on with what they had before."""


def contents(guards: Guards) -> Iterator[Resource]:
    yield TOKENS.content(jwt_authentication(guards))


def jwt_authentication(guards: Guards) -> Message:
    rules = [rule for policy in guards.authentications for rule in policy.spec.jwt_rules]
    if not rules:
        return JwtAuthentication()
    fetched = dict(guards.keys)
    providers = {f"origins-{index}": _provider(rule, fetched) for index, rule in enumerate(rules)}
    return JwtAuthentication(
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": _requirement(list(providers))}],
        bypass_cors_preflight=True,
    )


def _requirement(names: list[str]) -> dict[str, Any]:
    """One valid token, or none at all. With several issuers, no token may be there that none of them vouches for."""
    missing: dict[str, Any] = {"allow_missing": {}}
    each = [{"provider_name": name} for name in names]
    if len(names) == 1:
        return {"requires_any": {"requirements": [*each, missing]}}
    every = [{"requires_any": {"requirements": [one, missing]}} for one in each]
    return {"requires_any": {"requirements": [*each, {"requires_all": {"requirements": every}}]}}


def _provider(rule: JWTRule, fetched: dict[str, str]) -> dict[str, Any]:
    return {
        "issuer": rule.issuer or "",
        "audiences": rule.audiences,
        "local_jwks": {"inline_string": _keys(rule, fetched)},
        "forward": rule.forward_original_token,
        "from_headers": [{"name": one.name, "value_prefix": one.prefix} for one in rule.from_headers],
        "from_params": rule.from_params,
        "from_cookies": rule.from_cookies,
        "forward_payload_header": rule.output_payload_to_header,
        "claim_to_headers": [
            {"header_name": one.header, "claim_name": one.claim} for one in rule.output_claim_to_headers
        ],
        "payload_in_metadata": PAYLOAD,
        "clear_route_cache": True,  # a route may ask what the token says
        "normalize_payload_in_metadata": {
            "space_delimited_claims": list(dict.fromkeys((*ALWAYS_SPLIT, *rule.space_delimited_claims)))
        },
    }


def _keys(rule: JWTRule, fetched: dict[str, str]) -> str:
    url = key_source(rule)
    found = key_set(fetched.get(url, "") if url else rule.jwks or "")
    return json.dumps({"keys": [*(found or ()), NOBODYS_KEY]}, separators=(",", ":"))
