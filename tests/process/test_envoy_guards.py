"""Ways around a policy that were found in Istio and Envoy over the years, tokens, and what an edit leaves alone."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from envoys import until
from guarded import exchange, guarded, said
from mizzen.api.mesh import MeshConfig, PathNormalization
from mizzen.scope.model import Guards
from policies import authentication, denying, key_set, signing_key, token
from policies import plain as policy
from servers import Server, serving
from worlds import cases

pytestmark = pytest.mark.process


def mesh(mode: str) -> MeshConfig:
    return MeshConfig(path_normalization=PathNormalization(normalization=mode))  # type: ignore[arg-type]


def paths(*denied: str) -> Guards:
    return denying({"to": [{"operation": {"paths": list(denied)}}]})


@pytest.mark.parametrize("mode", ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"])
async def test_policy_and_application_see_the_same_path(tmp_path: Path, mode: str) -> None:
    """What the application gets is what a policy on exactly that path denies."""
    found = cases("path-normalization")
    if not isinstance(found[0], dict):
        pytest.skip("path-normalization.yaml is not at hand")
    own = [case for case in found if case["normalization"] == mode]
    async with guarded(tmp_path, mesh(mode)) as envoy:
        for case in own:
            answer = envoy.get(case["in"])
            assert answer.status == wire_status(case, 200), case
            assert answer.status != 200 or answer.headers["x-seen-path"] == case["out"], case
        there = sorted((case for case in own if "out" in case), key=seen_by_policies)
        for path, members in groupby(there, key=seen_by_policies):
            await envoy.enforce(paths(path))
            for case in members:
                assert envoy.get(case["in"]).status == wire_status(case, 403), case


def wire_status(case: dict[str, Any], otherwise: int) -> int:
    """What Envoy itself refuses has a status; a fragment is one thing that no client may send."""
    return int(case.get("raw_wire_status") or case.get("status") or otherwise)


def seen_by_policies(case: dict[str, Any]) -> str:
    return str(case["out"]).partition("?")[0]


DISGUISES = {
    "NONE": {"/admin?x": 403, "/x/../admin": 200},
    "BASE": {
        "/admin": 403,
        "/admin?x=1": 403,
        "/admin#x": 400,
        "/x/../admin": 403,
        "/x/%2e%2e/admin": 403,
        "/%61dmin": 403,
        "/x\\..\\admin": 403,
        "/Admin": 200,
        "//admin": 200,
        "/%2Fadmin": 200,
    },
    "MERGE_SLASHES": {"//admin": 403, "/x/..//admin": 403, "/%2Fadmin": 200},
    "DECODE_AND_MERGE_SLASHES": {"/%2Fadmin": 403, "/%5Cadmin": 403, "/x%2f..%2fadmin": 403},
}


@pytest.mark.parametrize("mode", DISGUISES)
async def test_disguised_paths(tmp_path: Path, mode: str) -> None:
    """2020-001, 2021-005, 2021-008. What gets through reaches the application under that other name, too."""
    async with guarded(tmp_path, mesh(mode), paths("/admin")) as envoy:
        assert {path: envoy.get(path).status for path in DISGUISES[mode]} == DISGUISES[mode]


async def test_disguised_hosts_headers_and_methods(tmp_path: Path) -> None:
    """2019-007, 2020-010, 2021-008, 2022-001, 2023-001, 2023-003, 2026-001."""
    async with guarded(tmp_path, MeshConfig()) as envoy:
        await envoy.enforce(denying({"to": [{"operation": {"hosts": ["secret.com", "secret.com:*"]}}]}))
        for host in ("secret.com", "SECRET.com", "secret.com:8080", "Secret.Com:1"):
            assert envoy.get("/", host=host).status == 403, host
        assert envoy.get("/", host="other.com").status == 200
        absolute = b"GET HtTp://SECRET.com/x HTTP/1.1\r\nHost: other.com\r\n\r\n"
        assert envoy.ask(envoy.ports.http, absolute).status in (400, 403)
        await envoy.enforce(denying({"when": [{"key": "request.headers[x-who]", "values": ["bad"]}]}))
        for headers in (
            ["x-who: bad"],
            ["X-WHO:   bad\t "],
            ["x-who: good", "x-who: bad"],
            ["x-who: bad", "x-who: good"],
        ):
            assert envoy.get("/", *headers).status == 403, headers
        assert envoy.get("/", "x-who: good").status == 200
        await envoy.enforce(
            Guards(policies=(policy(rules=[{"when": [{"key": "request.headers[x-who]", "notValues": ["bad"]}]}]),))
        )
        assert envoy.get("/", "x-who: good", "x-who: bad").status == 403
        await envoy.enforce(paths("/admin"))
        for name in ("x-envoy-original-path", "x-original-url", "x-rewrite-url", "x-envoy-original-url"):
            assert envoy.get("/admin", f"{name}: /").status == 403, name
        await envoy.enforce(denying({"to": [{"operation": {"notMethods": ["GET"]}}]}))
        for method in ("POST", "OPTIONS", "PUT"):
            assert envoy.get("/", method=method).status == 403, method
        assert envoy.get("/", "x-http-method-override: POST").status == 200


async def test_who_is_nobody(tmp_path: Path) -> None:
    """2019-001, 2020-009, 2021-004, 2025-003, 2026-003, 2026-005.

    Bytes are guarded, plain text has no identity, dots are dots, a null is no end.
    """
    web, dotted = "spiffe://cluster.local/ns/x/sa/y", "spiffe://cluster.local/ns/axb/sa/y"
    async with guarded(tmp_path, MeshConfig()) as envoy:

        def both(peer: str) -> tuple[int, int]:
            asked = said("GET", "/", "a.com")
            return envoy.get("/", port=envoy.ports.https, peer=peer).status, envoy.ask(
                envoy.ports.tls, asked, peer=peer
            ).status

        await envoy.enforce(denying({"from": [{"source": {"principals": ["*/ns/x/sa/y"]}}]}))
        assert both(web) == (403, 0)
        assert both(dotted) == (200, 200)
        await envoy.enforce(denying({"from": [{"source": {"notPrincipals": ["*"]}}]}))
        assert both(web) == (200, 200)
        assert both("") == (403, 0)
        assert envoy.get("/").status == 403
        for source in ({"namespaces": ["a.b"]}, {"serviceAccounts": ["a.b/y"]}, {"principals": ["*/ns/a.b/sa/y"]}):
            await envoy.enforce(denying({"from": [{"source": source}]}))
            assert both(dotted) == (200, 200), source
        only = Guards(policies=(policy(rules=[{"from": [{"source": {"principals": ["*/ns/x/sa/y"]}}]}]),))
        await envoy.enforce(only)
        assert both(web) == (200, 200)
        for more in ("\0", "\0.evil", "/../z", "%00", "?", "#", " "):
            assert set(both(f"{web}{more}")) <= {0, 403}, more
        await envoy.enforce(denying({"to": [{"operation": {"ports": [str(envoy.ports.tcp)]}}]}))
        assert envoy.ask(envoy.ports.tcp, said("GET", "/", "a")).status == 0
        assert both("") == (200, 200)


async def test_tokens(tmp_path: Path) -> None:
    """No token passes, a bad one does not: 8.7. 2021-001: nor does one of an issuer that nobody knows."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    trusted = {"issuer": "https://one", "jwks": key_set(signing_key()), "audiences": ["shop"]}
    good = {"iss": "https://one", "sub": "me", "aud": "shop", "realm": {"role": "admin"}}
    tokens = authentication(
        {
            **trusted,
            "outputClaimToHeaders": [{"header": "x-claim", "claim": "realm.role"}],
            "outputPayloadToHeader": "x-payload",
        }
    )
    async with guarded(tmp_path, MeshConfig()) as envoy:

        def with_token(text: str) -> tuple[int, str]:
            answer = envoy.get("/", f"authorization: Bearer {text}")
            return answer.status, answer.body.decode()

        await envoy.enforce(Guards(authentications=(tokens,)))
        assert envoy.get("/").status == 200
        accepted = envoy.get("/", f"authorization: Bearer {token(good)}")
        assert (accepted.status, accepted.headers["x-seen-claim"]) == (200, "admin")
        assert "x-seen-token" not in accepted.headers and "x-seen-payload" in accepted.headers
        assert envoy.get("/", "x-claim: admin").headers.get("x-seen-claim") is None, "claims cannot be pretended"
        assert with_token(token({**good, "exp": 1})) == (401, "Jwt is expired")
        assert with_token(token({**good, "iss": "https://two"})) == (401, "Jwt issuer is not configured")
        assert with_token(token(good, stranger)) == (401, "Jwt verification fails")
        assert with_token(token({**good, "aud": "other"})) == (403, "Audiences in Jwt are not allowed")
        assert with_token("x.y")[0] == 401
        assert with_token(f"{token(good).rpartition('.')[0]}.")[0] == 401, "no signature"
        assert envoy.get(f"/?access_token={token(good, stranger)}").status == 401
        required = policy(rules=[{"from": [{"source": {"requestPrincipals": ["https://one/*"]}}]}])
        await envoy.enforce(Guards(policies=(required,), authentications=(tokens,)))
        assert envoy.get("/").status == 403
        assert with_token(token(good))[0] == 200
        assert with_token(token(good, stranger))[0] == 401


async def test_routes_by_what_tokens_say(tmp_path: Path) -> None:
    tokens = authentication({"issuer": "one", "jwks": key_set(signing_key())})
    said_by = {"iss": "one", "role": "admin", "groups": ["x", "ab"]}
    async with guarded(tmp_path, MeshConfig(), Guards(authentications=(tokens,))) as envoy:
        for claims, status in ((said_by, 202), ({**said_by, "role": "user"}, 200), ({**said_by, "groups": "x"}, 200)):
            assert envoy.get("/by-claims", f"authorization: Bearer {token(claims)}").status == status
        assert envoy.get("/by-claims", "role: admin", "groups: a").status == 200


async def test_tokens_wherever_they_are(tmp_path: Path) -> None:
    trusted = {"issuer": "one", "jwks": key_set(signing_key()), "forwardOriginalToken": True}
    places = {"fromHeaders": [{"name": "x-jwt", "prefix": "T "}], "fromParams": ["t"], "fromCookies": ["jar"]}
    mine = token({"iss": "one", "sub": "me"})
    only = policy(rules=[{"from": [{"source": {"requestPrincipals": ["one/me"]}}]}])
    async with guarded(tmp_path, MeshConfig()) as envoy:
        await envoy.enforce(Guards(policies=(only,), authentications=(authentication({**trusted, **places}),)))
        assert envoy.get("/", f"x-jwt: T {mine}").status == 200
        assert envoy.get(f"/?t={mine}").status == 200
        assert envoy.get("/", f"cookie: jar={mine}").status == 200
        assert envoy.get("/", f"authorization: Bearer {mine}").status == 403, "that is not where it is looked for"
        await envoy.enforce(Guards(policies=(only,), authentications=(authentication(trusted),)))
        assert envoy.get("/", f"authorization: Bearer {mine}").headers["x-seen-token"] == f"Bearer {mine}"


BAD_KEYS = [
    "",
    "{}",
    "no JSON",
    '{"keys": []}',
    '{"keys": [{"kty": "RSA"}]}',
    '{"keys": [{"kty": 5}]}',
    '{"keys": [{"kty": "EC", "crv": "P-256", "x": "!"}]}',
]


@pytest.mark.parametrize("keys", BAD_KEYS)
async def test_without_keys_no_token_is_believed(tmp_path: Path, keys: str) -> None:
    """2026-001: neither a fetch that fails nor a key that is none opens the door, from the first moment on."""
    url = "https://one/.well-known/openid-configuration"
    closed = Guards(authentications=(authentication({"issuer": "https://one"}),), keys=((url, keys),))
    async with guarded(tmp_path, MeshConfig(), closed) as envoy:
        mine = token({"iss": "https://one", "sub": "me"})
        assert envoy.get("/", f"authorization: Bearer {mine}").status == 401
        assert envoy.get("/").status == 200


async def test_what_cannot_be_matched_never_allows_and_always_denies(tmp_path: Path) -> None:
    broken = (
        {"from": [{"source": {"ipBlocks": ["nowhere"]}}]},
        {"when": [{"key": "no.such.key", "values": ["x"]}]},
        {"from": []},
    )
    async with guarded(tmp_path, MeshConfig()) as envoy:
        for rule in broken:
            await envoy.enforce(denying(rule))
            assert envoy.get("/").status == 403, rule
            await envoy.enforce(Guards(policies=(policy(rules=[rule]),)))
            assert envoy.get("/").status == 403, rule
        await envoy.enforce(denying({**broken[0], "to": [{"operation": {"paths": ["/x" * 3000 + "/{*}", "/b"]}}]}))
        assert envoy.get("/a").status == 403, "a pattern that no proxy can take is no way around, either"


UPGRADE = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eA==")


async def test_an_edit_leaves_what_runs_alone_and_holds_for_what_comes(tmp_path: Path) -> None:
    async with guarded(tmp_path, MeshConfig()) as envoy:
        with serving(Server(envoy.ports.other)):
            sockets = [envoy.connect(envoy.ports.http) for _ in range(50)]
            asked = said("GET", "/other/ws", "a.com", UPGRADE)
            assert [exchange(one, asked).status for one in sockets] == [101] * 50
            kept = envoy.connect(envoy.ports.http)
            bytes_open = envoy.connect(envoy.ports.tcp)
            assert exchange(kept, said("GET", "/", "a.com")).status == 200
            assert exchange(bytes_open, said("GET", "/", "a.com")).status == 200
            before = envoy.stats("listener_manager")
            await envoy.enforce(denying({}))
            assert exchange(kept, said("GET", "/", "a.com")).status == 403, "an open connection meets the new rule"
            fresh = envoy.connect(envoy.ports.http)
            assert exchange(fresh, asked).status == 403
            for one in sockets:
                one.sendall(b"still here")
                assert one.recv(100) == b"still here"
            assert exchange(bytes_open, said("GET", "/", "a.com")).status == 200, "bytes keep the rules they began with"
            assert envoy.stats("listener_manager") == before
            for one in (*sockets, kept, bytes_open, fresh):
                one.close()


async def test_a_drain_ends_what_runs_and_nothing_that_begins(tmp_path: Path) -> None:
    """A revoked client is gone within the proxy's drain time; who may still come and begins anew is not cut."""
    revoked = denying({"from": [{"source": {"ipBlocks": ["127.0.0.2"]}}]})
    options = ("--drain-time-s", "1", "--drain-strategy", "immediate")
    async with guarded(tmp_path, MeshConfig(), Guards(), *options) as envoy:
        with serving(Server(envoy.ports.other)):
            asked = said("GET", "/other/ws", "a.com", UPGRADE)
            web, raw = (
                envoy.connect(envoy.ports.http, source="127.0.0.2"),
                envoy.connect(envoy.ports.tcp, source="127.0.0.2"),
            )
            assert exchange(web, asked).status == 101
            assert exchange(raw, said("GET", "/", "a.com")).status == 200
            started = time.monotonic()
            await envoy.enforce(revoked, drained="2026-11-26T22:00:00Z")
            with envoy.connect(envoy.ports.http, source="127.0.0.2") as again:
                assert exchange(again, asked).status == 403
            refused = envoy.ask(envoy.ports.tcp, said("GET", "/", "a.com"), source="127.0.0.2")
            assert refused.status == 0, "no connection began on the new chain under the old rules"
            allowed_web, allowed_raw = envoy.connect(envoy.ports.http), envoy.connect(envoy.ports.tcp)
            assert exchange(allowed_web, asked).status == 101
            assert [await asyncio.to_thread(closed_after, one, started) for one in (web, raw)] == [True, True]
            await until(
                lambda: (
                    not envoy.stats("listener_manager.total_filter_chains_draining")[
                        "listener_manager.total_filter_chains_draining"
                    ]
                )
            )
            allowed_web.sendall(b"still here")
            assert allowed_web.recv(100) == b"still here"
            assert exchange(allowed_raw, said("GET", "/", "a.com")).status == 200
            for one in (web, raw, allowed_web, allowed_raw):
                one.close()


def closed_after(connection: socket.socket, started: float) -> bool:
    """Whether the other side ended it, within twice the drain time and some."""
    connection.settimeout(5)
    try:
        ended = connection.recv(100) == b""
    except ConnectionResetError:
        ended = True
    return ended and time.monotonic() - started < 4


async def test_dry_run_is_told_and_not_enforced(tmp_path: Path) -> None:
    """Told to other policies, too, as is whatever a filter before them notes."""
    tried = policy("try", action="DENY", rules=[{"to": [{"operation": {"paths": ["/tried"]}}]}])
    annotated = type(tried)(
        metadata=type(tried.metadata)(name="try", namespace="default", annotations={"istio.io/dry-run": "true"}),
        spec=tried.spec,
    )
    async with guarded(tmp_path, MeshConfig()) as envoy:
        await envoy.enforce(Guards(policies=(annotated,)))
        assert envoy.get("/tried").status == 200
        assert json.dumps(envoy.stats("shadow_denied")).count("istio_dry_run_deny_") >= 1
        noted = "experimental.envoy.filters.http.rbac[istio_dry_run_deny_shadow_engine_result]"
        for values, statuses in (["denied"], [200, 403]), (["den*"], [200, 403]), (["[denied]"], [403, 403]):
            by_metadata = policy(rules=[{"when": [{"key": noted, "values": values}]}])
            await envoy.enforce(Guards(policies=(annotated, by_metadata)))
            assert [envoy.get(path).status for path in ("/tried", "/")] == statuses, values
