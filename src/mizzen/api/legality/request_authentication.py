"""RequestAuthentication."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from mizzen.api.authorization import JWTRule, RequestAuthentication
from mizzen.api.legality.authorization import scope
from mizzen.api.legality.finding import Finding, Findings, warning

_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k")
"""Members of a JSON Web Key that nobody but its owner may know."""


def request_authentication(obj: RequestAuthentication) -> Findings:
    yield from scope(obj.spec)
    for index, rule in enumerate(obj.spec.jwt_rules):
        yield from _rule(f"spec.jwtRules[{index}]", rule)


def _rule(path: str, rule: JWTRule) -> Findings:
    if not rule.issuer and not rule.jwks_uri:
        yield Finding(f"{path}.issuer", "an issuer, or a jwksUri, is needed")
    if rule.jwks_uri is not None and (problem := _url_problem(rule.jwks_uri)):
        yield Finding(f"{path}.jwksUri", problem)
    if rule.jwks is not None:
        yield from _keys(f"{path}.jwks", rule.jwks)


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{url!r}: url must have scheme http:// or https://"
    return "" if port is None or port > 0 else f"{url!r} names no port"


def _keys(path: str, text: str) -> Findings:
    keys = key_set(text)
    if keys is None:
        yield Finding(path, 'this is no JSON Web Key Set ({"keys": [...]})')
    elif any(name in key for key in keys for name in _PRIVATE):
        yield warning(path, "this holds a private or a shared key: whoever reads the policy can sign tokens")


def key_set(text: str) -> list[dict[str, Any]] | None:
    """The keys in a JSON Web Key Set (RFC 7517); None when it is none."""
    try:
        keys = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError):
        return None
    well_formed = isinstance(keys, list) and all(
        isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys
    )
    return keys if well_formed else None
