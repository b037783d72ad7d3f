"""What stands in for a policy that cannot be read: security must not depend on whether it can.

Such an object was stored past validation, and nothing that could be read was in force before. Its selector is honoured
if that can be read; else it is taken to be for all of its namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mizzen.api.authorization import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    JWTRule,
    RequestAuthentication,
    RequestAuthenticationSpec,
    Rule,
)
from mizzen.api.base import Metadata, Resource
from mizzen.api.decode import Undecodable, convert
from mizzen.api.peer_authentication import MutualTLS, PeerAuthentication, PeerAuthenticationSpec
from mizzen.api.values import MatchLabels

M = TypeVar("M")
NO_KEYS = '{"keys": []}'


def stand_in(kind: type[Resource], metadata: Metadata, document: Mapping[str, Any]) -> Resource | None:
    """Denies, demands mesh TLS, or accepts no token; None for kinds that guard nothing."""
    given = document.get("spec")
    spec: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    selector = _readable(spec.get("selector"), MatchLabels)
    if kind is AuthorizationPolicy:
        denial = AuthorizationPolicySpec(selector=selector, action="DENY", rules=(Rule(),))
        return AuthorizationPolicy(metadata=metadata, spec=denial)
    if kind is PeerAuthentication:
        strict = PeerAuthenticationSpec(selector=selector, mtls=MutualTLS(mode="STRICT"))
        return PeerAuthentication(metadata=metadata, spec=strict)
    if kind is RequestAuthentication:
        tokens = RequestAuthenticationSpec(selector=selector, jwt_rules=tuple(_rules(spec.get("jwtRules"))))
        return RequestAuthentication(metadata=metadata, spec=tokens)
    return None


MEANING: Mapping[type[Resource], str] = {
    AuthorizationPolicy: "Until it can be read, everything that it would apply to is denied.",
    PeerAuthentication: "Until it can be read, STRICT holds for what it would apply to.",
    RequestAuthentication: "Until it can be read, tokens of its issuers that cannot be checked are refused.",
}


def _rules(given: Any) -> Iterator[JWTRule]:
    """Those that can be read; of the others the issuer, without any key."""
    for one in given if isinstance(given, list) else ():
        rule = _readable(one, JWTRule)
        issuer = one.get("issuer") if isinstance(one, Mapping) else None
        if rule is not None:
            yield rule
        elif isinstance(issuer, str) and issuer:
            yield JWTRule(issuer=issuer, jwks=NO_KEYS)


def _readable(given: Any, struct: type[M]) -> M | None:
    if given is None:
        return None
    try:
        return convert(given, struct)
    except Undecodable:
        return None
