"""AuthorizationPolicies, tokens and requests: short to write, or by chance and from few enough words that they meet."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from dice import Dice
from mizzen.api.authorization import AuthorizationPolicy, RequestAuthentication
from mizzen.api.decode import convert
from mizzen.api.validate import legality
from mizzen.scope.decision import Request
from mizzen.scope.model import Guards

PATHS = ["/", "/a", "/a/b", "/a/b/c", "/admin", "/admin/x", "/ab", "/A", "/a//b", "/a.b", "/a/b?x=/admin"]
PATHS += ["/a/", "/a/b/", "//", "/a;x=1", "/a%20b", "/a%2Fb", "/a/b?"]
PATH_PATTERNS = [
    "*",
    "/a",
    "/a*",
    "*/b",
    "/a/b",
    "/{*}",
    "/a/{*}",
    "/a/{**}",
    "/{*}/b",
    "/{*}/{*}",
    "/a/{*}/c",
    "/{*}/{**}",
    "/a{*}",
    "/{**}",
    "/a/",
    "*/",
    "/a%2F*",
    "/admin*",
    "/a.b",
    "/ab*",
]
HOSTS = ["a.com", "A.com", "a.com:80", "b.a.com", "b.com"]
HOST_PATTERNS = ["*", "a.com", "a.com*", "*.a.com", "A.COM", "b.com", "a.com:*"]
METHODS = ["GET", "POST", "DELETE", "OPTIONS"]
METHOD_PATTERNS = [*METHODS, "*", "P*", "*T"]
PEERS = [
    "",
    "spiffe://cluster.local/ns/default/sa/web",
    "spiffe://cluster.local/ns/default/sa/web-2",
    "spiffe://cluster.local/ns/default-2/sa/web",
    "spiffe://old.example.com/ns/other/sa/a.b",
    "spiffe://elsewhere/ns/default/sa/web",
    "spiffe://elsewhere/ns/other/sa/axb",
]
PRINCIPALS = [
    "*",
    "cluster.local/ns/default/sa/web",
    "cluster.local/ns/default/*",
    "*/sa/web",
    "cluster.local/ns/other/sa/a.b",
    "old.example.com/ns/default/sa/web",
    "elsewhere/*",
]
NAMESPACES = ["default", "other", "default*", "*", "*r", "d*t"]
ACCOUNTS = ["web", "default/web", "other/a.b", "web-2"]
DOMAINS = ["cluster.local", "elsewhere", "*", "old*", "*.com"]
SOURCES = ["127.0.0.1", "127.0.0.2", "127.0.1.1"]
BLOCKS = ["127.0.0.1", "127.0.0.0/24", "127.0.0.0/8", "127.0.0.2/32", "10.0.0.0/8"]
REMOTES = ["", "10.1.2.3", "10.9.9.9", "2001:db8::1"]
REMOTE_BLOCKS = ["10.1.0.0/16", "10.0.0.0/8", "2001:db8::/32", "127.0.0.0/8", "10.9.9.9"]
DESTINATIONS = ["127.0.0.1", "127.0.0.3"]
NAMES = ["", "a.com", "x.a.com"]
HEADERS: list[list[tuple[str, str]]] = [
    [],
    [("x-a", "one")],
    [("X-A", "two")],
    [("x-a", "one"), ("x-a", "two")],
    [("x-a", "one,two")],
    [("x-a", "")],
    [("x-b", "one")],
]
TEXTS = ["one", "two", "o*", "*o", "*", "one,two"]
ISSUER, OTHER_ISSUER = "https://issuer.example.com/realm", "other"
CLAIMS: list[dict[str, Any]] = [
    {},
    {"iss": ISSUER, "sub": "one"},
    {"iss": ISSUER, "sub": "two", "aud": "one", "azp": "two", "groups": ["one", "two"]},
    {"iss": OTHER_ISSUER, "sub": "one", "aud": ["one", "x"], "groups": "one", "nested": {"deep": "one"}},
    {"iss": OTHER_ISSUER, "sub": "a/b", "scope": "one two", "nested": {"deep": ["two"]}, "groups": [1, True]},
    {"iss": OTHER_ISSUER},
]
REQUEST_PRINCIPALS = [
    "*",
    f"{ISSUER}/one",
    f"{ISSUER}/*",
    "*/one",
    "https://issuer*",
    "other/one",
    "other*",
    "*one",
    "*realm/two",
    "other/a/b",
]
KEYS: dict[str, list[str]] = {
    "source.ip": BLOCKS,
    "remote.ip": REMOTE_BLOCKS,
    "source.namespace": NAMESPACES,
    "source.principal": PRINCIPALS,
    "source.serviceAccount": ACCOUNTS,
    "source.trustDomain": DOMAINS,
    "request.headers[x-a]": TEXTS,
    "request.headers[X-B]": TEXTS,
    "request.auth.principal": REQUEST_PRINCIPALS,
    "request.auth.audiences": TEXTS,
    "request.auth.presenter": TEXTS,
    "request.auth.claims[groups]": TEXTS,
    "request.auth.claims[nested][deep]": TEXTS,
    "request.auth.claims[scope]": TEXTS,
    "destination.ip": ["127.0.0.1", "127.0.0.0/30", "127.0.0.3/32"],
    "connection.sni": ["a.com", "*", "*.a.com"],
}


@cache
def signing_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_set(key: ec.EllipticCurvePrivateKey) -> str:
    numbers = key.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(one.to_bytes(32, "big")).decode().rstrip("=") for one in (numbers.x, numbers.y))
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y, "alg": "ES256"}]})


def token(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey | None = None) -> str:
    return jwt.encode(claims, key or signing_key(), algorithm="ES256", headers={"kid": "k"})


def authentication(*rules: dict[str, Any]) -> RequestAuthentication:
    return convert(
        {"metadata": {"name": "t", "namespace": "default"}, "spec": {"jwtRules": rules}}, RequestAuthentication
    )


def plain(name: str = "p", **spec: Any) -> AuthorizationPolicy:
    return convert({"metadata": {"name": name, "namespace": "default"}, "spec": spec}, AuthorizationPolicy)


def denying(*rules: dict[str, Any]) -> Guards:
    return Guards(policies=(plain(action="DENY", rules=rules),))


def policy(dice: Dice, number: int, ports: tuple[int, ...]) -> AuthorizationPolicy:
    """One that admission accepts."""
    while True:
        document = _document(dice, number, ports)
        if not any(found.level == "error" for found in legality(document)):
            return convert(document, AuthorizationPolicy)


def _document(dice: Dice, number: int, ports: tuple[int, ...]) -> dict[str, Any]:
    rules = list(dice.several(lambda: _rule(dice, [*map(str, ports), "9999"]), most=3))
    action = dice.one([*["ALLOW"] * 5, *["DENY"] * 3, *["AUDIT"] * 3, "CUSTOM"])
    asked = {"provider": {"name": "unknown"}} if action == "CUSTOM" else {}
    spec = {"action": action, **asked, **({"rules": rules} if rules else {})}
    annotations = {"istio.io/dry-run": dice.one(["true", "false"])} if dice.number(0, 9) == 0 else {}
    metadata = {"name": f"p{number}", "namespace": "default", "annotations": annotations}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def _rule(dice: Dice, ports: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if dice.coin():
        found["from"] = [{"source": _source(dice)} for _ in range(dice.number(1, 2))]
    if dice.coin():
        found["to"] = [{"operation": _operation(dice, ports)} for _ in range(dice.number(1, 2))]
    if dice.number(0, 2) == 0:
        found["when"] = [_condition(dice, ports) for _ in range(dice.number(1, 2))]
    return found


def _some(dice: Dice, choices: dict[str, list[str]], most: int) -> dict[str, list[str]]:
    """One to `most` fields, each as it is or negated."""
    names = [dice.one(list(choices)) for _ in range(dice.number(1, most))]
    return {
        name if dice.number(0, 2) else f"not{name[:1].upper()}{name[1:]}": _values(dice, choices[name])
        for name in names
    }


def _values(dice: Dice, choices: list[str]) -> list[str]:
    return [dice.one(choices) for _ in range(dice.number(1, 2))]


def _source(dice: Dice) -> dict[str, list[str]]:
    identity: Callable[[], dict[str, list[str]]] = lambda: _some(  # noqa: E731
        dice, {"principals": PRINCIPALS, "namespaces": NAMESPACES, "trustDomains": DOMAINS}, 2
    )
    other = {"ipBlocks": BLOCKS, "remoteIpBlocks": REMOTE_BLOCKS, "requestPrincipals": REQUEST_PRINCIPALS}
    return {
        0: lambda: _some(dice, {"serviceAccounts": ACCOUNTS}, 1),
        1: identity,
        2: lambda: _some(dice, other, 2),
        3: lambda: {**identity(), **_some(dice, other, 1)},
    }[dice.number(0, 3)]()


def _operation(dice: Dice, ports: list[str]) -> dict[str, list[str]]:
    return _some(dice, {"hosts": HOST_PATTERNS, "ports": ports, "methods": METHOD_PATTERNS, "paths": PATH_PATTERNS}, 3)


def _condition(dice: Dice, ports: list[str]) -> dict[str, Any]:
    keys = {**KEYS, "destination.port": ports}
    key = dice.one(list(keys))
    parts = dice.one([("values",), ("values",), ("notValues",), ("values", "notValues")])
    return {"key": key, **{part: _values(dice, keys[key]) for part in parts}}


def request(dice: Dice, http: int, https: int) -> tuple[Request, str]:
    """As the proxy will see it, and what X-Forwarded-For is to say."""
    source, remote, encrypted = dice.one(SOURCES), dice.one(REMOTES), dice.coin()
    found = Request(
        source=source,
        remote=remote or source,
        destination=dice.one(DESTINATIONS),
        port=https if encrypted else http,
        peer=dice.one(PEERS) if encrypted else "",
        sni=dice.one(NAMES) if encrypted else "",
        method=dice.one(METHODS),
        path=dice.one(PATHS),
        host=dice.one(HOSTS),
        headers=tuple((name.lower(), value) for name, value in dice.one(HEADERS)),
        claims=dice.one(CLAIMS),
    )
    return found, remote


def connection(dice: Dice, tcp: int, tls: int) -> Request:
    source, encrypted = dice.one(SOURCES), dice.coin()
    return Request(
        http=False,
        source=source,
        remote=source,
        destination=dice.one(DESTINATIONS),
        port=tls if encrypted else tcp,
        peer=dice.one(PEERS) if encrypted else "",
        sni=dice.one(NAMES) if encrypted else "",
    )
