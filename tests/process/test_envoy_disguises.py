"""More ways around a policy, tried on a real Envoy: tokens that only seem to be some, forwarded addresses, smuggling.

Beside test_envoy_guards.py; the numbers are those of Istio's security bulletins.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from guarded import Guarded, exchange, guarded, said
from mizzen.api.mesh import GatewayTopology, MeshConfig, ProxyConfig
from mizzen.scope.model import Guards
from policies import authentication, denying, key_set, signing_key
from policies import plain as policy
from servers import Server, serving

pytestmark = pytest.mark.process

ISSUER = "https://one"
NOW = int(time.time())
GOOD = {"iss": ISSUER, "sub": "me", "aud": "shop"}
TRUSTED = {"issuer": ISSUER, "jwks": key_set(signing_key()), "audiences": ["shop"]}
ONLY_WITH_TOKEN = policy(rules=[{"from": [{"source": {"requestPrincipals": [f"{ISSUER}/*"]}}]}])


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def forged(header: dict[str, Any], claims: dict[str, Any] = GOOD, secret: bytes = b"") -> str:
    """Signed with nothing, or by HMAC with what everybody knows."""
    text = f"{part(header)}.{part(claims)}"
    digest = hmac.new(secret, text.encode(), hashlib.sha256).digest() if secret else b""
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def signed(claims: dict[str, Any] = GOOD, **header: Any) -> str:
    content = json.dumps(claims).encode()
    return jwt.PyJWS().encode(content, signing_key(), algorithm="ES256", headers={"kid": "k", **header})


PUBLIC = key_set(signing_key())
MINE = json.loads(PUBLIC)["keys"][0]
FORGED = {
    "no algorithm": forged({"alg": "none", "kid": "k"}),
    "no algorithm, in capitals": forged({"alg": "NONE"}),
    "the public key as a shared secret": forged({"alg": "HS256", "kid": "k"}, secret=PUBLIC.encode()),
    "the coordinates as a shared secret": forged({"alg": "HS256", "kid": "k"}, secret=MINE["x"].encode()),
    "an algorithm of other keys": forged({"alg": "RS256", "kid": "k"}, secret=b"x"),
    "a key of its own in the header": forged({"alg": "HS256", "jwk": {"kty": "oct", "k": part("x")}}, secret=b'"x"'),
    "a kid that is a path": signed(kid="../../dev/null"),
    "another's kid": signed(kid="nobody"),
    "expired": signed({**GOOD, "exp": NOW - 120}),
    "not yet": signed({**GOOD, "nbf": NOW + 3600}),
    "an issuer that is a list": signed({**GOOD, "iss": [ISSUER]}),
    "an issuer with more behind it": signed({**GOOD, "iss": f"{ISSUER}/"}),
    "no issuer": signed({"sub": "me", "aud": "shop"}),
    "another audience": signed({**GOOD, "aud": "shopping"}),
    "no audience": signed({"iss": ISSUER, "sub": "me"}),
    "audiences without ours": signed({**GOOD, "aud": ["a", "b"]}),
    "claims changed": ".".join((signed().split(".")[0], part({**GOOD, "sub": "you"}), signed().split(".")[2])),
    "a part more": f"{signed()}.x",
    "a part less": signed().rpartition(".")[0],
    "huge": signed({**GOOD, "x": "x" * 70_000}),
}


def accepted() -> dict[str, str]:
    """Made when they are used: a clock may be wrong by a minute, and whole suites take longer."""
    now = int(time.time())
    return {
        "audiences with ours": signed({**GOOD, "aud": ["a", "shop"]}),
        "a clock that is behind": signed({**GOOD, "exp": now - 20}),
        "a clock that is ahead": signed({**GOOD, "nbf": now + 20}),
        "a critical header that is none of our business": signed(typ="at+jwt"),
    }


async def test_tokens_that_are_not_what_they_seem(tmp_path: Path) -> None:
    guards = Guards(policies=(ONLY_WITH_TOKEN,), authentications=(authentication(TRUSTED),))
    async with guarded(tmp_path, MeshConfig(), guards) as envoy:
        good = accepted()
        answers = {name: envoy.get("/", f"authorization: Bearer {one}").status for name, one in good.items()}
        assert answers == dict.fromkeys(good, 200)
        for name, one in FORGED.items():
            assert envoy.get("/", f"authorization: Bearer {one}").status in (400, 401, 403, 431), name
        good, bad = signed(), FORGED["expired"]
        for headers in (["authorization: Bearer"], [f"authorization: {good}"], [f"authorization: Basic {good}"]):
            assert envoy.get("/", *headers).status in (401, 403), headers
        assert envoy.get("/", f"cookie: access_token={good}").status == 403
        several = {
            "two headers, good first": envoy.get("/", f"authorization: Bearer {good}", f"authorization: Bearer {bad}"),
            "header and query": envoy.get(f"/?access_token={bad}", f"authorization: Bearer {good}"),
            "query twice": envoy.get(f"/?access_token={bad}&access_token={good}"),
        }
        assert {name: answer.status for name, answer in several.items() if answer.status == 200} == {}


# Who claims to be near

LEVERS = {
    "x-envoy-retry-on": "5xx",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-upstream-alt-stat-name": "x",
    "x-envoy-internal": "true",
    "x-envoy-force-trace": "true",
    "x-envoy-original-path": "/",
    "x-envoy-decorator-operation": "x",
    "x-envoy-downstream-service-cluster": "x",
    "x-envoy-ip-tags": "x",
    "x-envoy-original-dst-host": "127.0.0.1:1",
    "x-envoy-peer-metadata": "x",
    "x-envoy-peer-metadata-id": "x",
    "x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/default/sa/admin",
}


class Recorder(Server):
    """Answers 200, and keeps what it was asked."""

    heads: list[str]

    def talk(self, connection: socket.socket, head: str) -> None:
        self.heads = [*getattr(self, "heads", []), head]
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def headers_of(head: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in head.split("\r\n")[1:])
    return {name.lower(): value for name, _, value in pairs}


async def test_a_gateway_passes_on_no_word_that_is_its_own_to_say(tmp_path: Path) -> None:
    """2020-002, 2022-008, 2023-001, 2024-006, also from a private address as this one is."""
    async with guarded(tmp_path, MeshConfig()) as envoy:
        with serving(Recorder(envoy.ports.other)) as there:
            for port, peer in ((envoy.ports.http, ""), (envoy.ports.https, "")):
                sent = [f"{name}: {value}" for name, value in LEVERS.items()]
                assert envoy.get("/other/x", *sent, port=port, peer=peer).status == 200
                arrived = headers_of(there.heads[-1])
                kept = {name: value for name, value in LEVERS.items() if arrived.get(name) == value}
                assert kept == {}, kept


@pytest.mark.parametrize("trusted", [0, 1, 2])
async def test_addresses_that_are_forwarded_count_as_far_as_proxies_are_trusted(tmp_path: Path, trusted: int) -> None:
    topology = GatewayTopology(num_trusted_proxies=trusted)
    mesh = MeshConfig(default_config=ProxyConfig(gateway_topology=topology))
    far = policy(rules=[{"from": [{"source": {"remoteIpBlocks": ["10.0.0.0/8"]}}]}])
    claims = {
        "10.1.1.1": {1},
        "10.1.1.1, 9.9.9.9": {2},
        "9.9.9.9, 10.1.1.1": {1},
        "10.1.1.1, 10.2.2.2": {1, 2},
        "10.1.1.1, 9.9.9.9, 9.9.9.8": set[int](),
    }
    async with guarded(tmp_path, mesh, Guards(policies=(far,))) as envoy:
        for claim, believed in claims.items():
            status = envoy.get("/", f"x-forwarded-for: {claim}").status
            assert (status == 200) == (trusted in believed), (claim, status)
        assert envoy.get("/", "x-real-ip: 10.1.1.1", "forwarded: for=10.1.1.1", "x-client-ip: 10.1.1.1").status == 403
        await envoy.enforce(denying({"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}))
        assert envoy.get("/", "x-forwarded-for: 10.1.1.1").status == 403, "where a connection comes from cannot be said"


# What one side takes for one request and the other for two

SMUGGLED = "GET /other/admin HTTP/1.1\r\nHost: a.com\r\n\r\n"
AMBIGUOUS = {
    "both lengths": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"],
    "a length that is a list": [f"Content-Length: 0, {len(SMUGGLED)}"],
    "a length with a sign": ["Content-Length: +0"],
    "a coding nobody knows": ["Transfer-Encoding: xchunked"],
    "chunked, but not last": ["Transfer-Encoding: chunked, identity"],
    "a name with a blank": ["Content-Length : 0"],
    "a line that goes on": ["X-A: b", " c: d"],
    "a bare line end": ["X-A: b\nContent-Length: 3"],
    "a null": ["X-A: b\0c"],
}


async def test_no_request_rides_in_another_one(tmp_path: Path) -> None:
    """2024-004 and others: what a policy denies does not reach the application in disguise."""
    guards = denying({"to": [{"operation": {"paths": ["/other/admin*"]}}]})
    async with guarded(tmp_path, MeshConfig(), guards) as envoy:
        with serving(Recorder(envoy.ports.other)) as there:
            for name, lines in AMBIGUOUS.items():
                status = say(envoy, said("POST", "/other/x", "a.com", lines) + SMUGGLED.encode())
                assert status in (0, 400, 501) or not reached(there), (name, status)
            for upgrade in ("websocket", "h2c", "x"):
                lines = [
                    "Connection: Upgrade, HTTP2-Settings",
                    f"Upgrade: {upgrade}",
                    "HTTP2-Settings: AAMAAABkAAQAAP__",
                ]
                assert say(envoy, said("GET", "/other/x", "a.com", lines) + SMUGGLED.encode()) != 101, upgrade
            for method, target in (("CONNECT", "a.com:80"), ("CONNECT", "/other/admin"), ("TRACE", "/other/admin")):
                assert say(envoy, said(method, target, "a.com") + SMUGGLED.encode()) != 200, (method, target)
            for target in ("http://a.com/other/admin", "HTTP://A.COM/other/admin", "http://a.com//../other/admin"):
                assert say(envoy, said("GET", target, "b.com")) in (400, 403), target
            assert not reached(there), there.heads


def reached(there: Recorder) -> list[str]:
    return [head for head in getattr(there, "heads", []) if "/admin" in head]


def say(envoy: Guarded, data: bytes) -> int:
    with contextlib.suppress(OSError), envoy.connect(envoy.ports.http) as connection:
        return exchange(connection, data).status
    return 0


# HTTP/2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
HEADERS, ENDS, RESET, GOAWAY = 1, 5, 3, 7


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def literal(name: str, value: str) -> bytes:
    """A header as it is, neither indexed nor compressed: RFC 7541, 6.2.2."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode("latin-1") for text in (name, value))


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    data = b""
    while True:
        while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3], "big"):
            received = connection.recv(65536)
            if not received:
                return
            data += received
        size = 9 + int.from_bytes(data[:3], "big")
        yield data[3], data[9:size]
        data = data[size:]


def asked_by_http2(envoy: Guarded, *headers: tuple[str, str]) -> str:
    """`200`, or how it was refused."""
    with envoy.connect(envoy.ports.http) as connection:
        block = b"".join(literal(name, value) for name, value in headers)
        connection.sendall(PREFACE + frame(HEADERS, ENDS, 1, block))
        for kind, content in frames(connection):
            if kind == HEADERS:
                return "200" if content[:1] == b"\x88" else "another status"
            if kind in (RESET, GOAWAY):
                return "reset"
    return "closed"


def http2(path: str = "/", method: str = "GET", host: str = "a.com", *more: tuple[str, str]) -> list[tuple[str, str]]:
    pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", host)]
    return [*((name, value) for name, value in pseudo if value), *more]


async def test_http2_is_no_way_around(tmp_path: Path) -> None:
    """Pseudo headers are what policies compare; what contradicts them does not count or is refused."""
    refused = [
        http2("/admin"),
        http2("/x/../admin"),
        http2("/%61dmin"),
        http2("/admin?x"),
        http2("/admin#x"),
        http2("/pkg.Svc/Secret", "POST"),
        http2("/", "GET", "secret.com"),
        http2("/", "GET", "SECRET.com:80"),
        http2("/", "GET", "", ("host", "secret.com")),
        http2("/", "GET", "secret.com", ("host", "a.com")),
        http2("/", "DELETE"),
        http2("", "CONNECT", "a.com:80"),
        [*http2("", "CONNECT", "a.com"), (":protocol", "websocket"), (":path", "/admin"), (":scheme", "http")],
        [(":path", "/"), *http2("/admin")],
        [*http2("/"), (":path", "/admin")],
        http2("/", "GET", "a.com", ("x-who", "bad")),
        http2("/", "GET", "a.com", ("x-who", "good"), ("x-who", "bad")),
        http2("/", "GET", "a.com", ("X-Who", "good")),
        http2("/", "GET", "a.com", ("transfer-encoding", "chunked")),
        http2("/", "GET", "a.com", ("connection", "close")),
        http2("admin"),
    ]
    operations = ({"paths": ["/admin", "/pkg.Svc/Secret"]}, {"hosts": ["secret.com", "secret.com:*"]})
    others = ({"methods": ["DELETE", "CONNECT"]},)
    rules = [{"to": [{"operation": one}]} for one in (*operations, *others)]
    guards = denying(*rules, {"when": [{"key": "request.headers[x-who]", "values": ["bad"]}]})
    async with guarded(tmp_path, MeshConfig(), guards) as envoy:
        assert asked_by_http2(envoy, *http2()) == "200"
        assert asked_by_http2(envoy, *http2("/pkg.Svc/Open", "POST")) == "200"
        answers = await asyncio.gather(*(asyncio.to_thread(asked_by_http2, envoy, *headers) for headers in refused))
        assert [headers for headers, answer in zip(refused, answers, strict=True) if answer == "200"] == []
