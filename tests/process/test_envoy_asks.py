"""Authorizers of the user's own, asked by a real Envoy: by HTTP, by gRPC, and when they are slow or away."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from guarded import guarded, said
from mizzen.api.mesh import MeshConfig
from mizzen.samples import ext_authz
from mizzen.scope.model import Authorizer, Guards
from policies import plain as policy
from servers import Server, serving

pytestmark = pytest.mark.process


class AuthorizerServer(Server):
    """Allows who says so, and tells both sides a header."""

    def talk(self, connection: socket.socket, head: str) -> None:
        yes = "x-ext-authz: allow" in head.lower()
        said_so = b"HTTP/1.1 200 OK\r\n" if yes else b"HTTP/1.1 401 Unauthorized\r\n"
        connection.sendall(
            said_so + b"x-result: told\r\nx-claim: from-authorizer\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )


def authorizer(kind: str, port: int, **settings: Any) -> Authorizer:
    host = "other" if kind == "http" else "grpc"
    return Authorizer(name="mine", kind=kind, cluster=f"outbound|{port}||{host}", host=host, settings=settings)  # type: ignore[arg-type]


def custom(name: str = "c", **operation: Any) -> Any:
    return policy(name, action="CUSTOM", provider={"name": "mine"}, rules=[{"to": [{"operation": operation}]}])


async def test_an_authorizer_over_http(tmp_path: Path) -> None:
    async with guarded(tmp_path, MeshConfig()) as envoy:
        asks = authorizer(
            "http",
            envoy.ports.other,
            includeRequestHeadersInCheck=["x-ext-authz"],
            headersToUpstreamOnAllow=["x-claim"],
            headersToDownstreamOnDeny=["x-result"],
        )
        denied = policy(action="DENY", rules=[{"to": [{"operation": {"paths": ["/admin/no"]}}]}])
        await envoy.enforce(Guards(policies=(custom(paths=["/admin*"]), denied), authorizer=asks))
        with serving(AuthorizerServer(envoy.ports.other)):
            assert envoy.get("/").status == 200, "not asked"
            refused = envoy.get("/admin")
            assert (refused.status, refused.headers["x-result"]) == (401, "told")
            allowed = envoy.get("/admin", "x-ext-authz: allow")
            assert (allowed.status, allowed.headers["x-seen-claim"]) == (200, "from-authorizer")
            assert envoy.get("/admin/no", "x-ext-authz: allow").status == 403, "yes is not the last word"
            assert envoy.ask(envoy.ports.tcp, said("GET", "/", "a.com")).status == 0, "cannot be asked, so denied"
        assert envoy.get("/admin", "x-ext-authz: allow").status == 403, "nobody answers"
        await envoy.enforce(Guards(policies=(custom(paths=["/admin*"]),)))
        assert envoy.get("/admin", "x-ext-authz: allow").status == 403, "there is none to ask"
        assert envoy.get("/").status == 200
        assert envoy.ask(envoy.ports.tcp, said("GET", "/", "a.com")).status == 0


class Recorder(AuthorizerServer):
    """Keeps what it was asked."""

    head = ""

    def talk(self, connection: socket.socket, head: str) -> None:
        self.head = head
        super().talk(connection, head)


DISGUISED = (
    ["x-who: one", "x-who: two"],
    ["x-who: two", "x-who: one"],
    ["x-who: one,two"],
    ["X-Who:  one", "x-wHO: two "],
)
NO_TEXT = "x-who: \xff\xfe\xc3("
"""Bytes that are no UTF-8."""


async def test_an_authorizer_sees_every_value_and_no_bytes_keep_it_from_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2021-008, 2023-001."""
    seen: list[bytes] = []
    answer = ext_authz.check
    monkeypatch.setattr(ext_authz, "check", lambda request: (seen.append(request), answer(request))[1])
    async with guarded(tmp_path, MeshConfig()) as envoy:
        port = envoy.ports.other
        asks = authorizer("http", port, includeRequestHeadersInCheck=["x-ext-authz", "x-who"], timeout="2s")
        await envoy.enforce(Guards(policies=(custom(paths=["/admin*"]),), authorizer=asks))
        with serving(Recorder(port)) as there:
            for headers in DISGUISED:
                assert envoy.get("/admin", *headers, "x-ext-authz: allow").status == 200
                assert "one" in there.head and "two" in there.head, (headers, there.head)
            assert [envoy.get("/admin", NO_TEXT, *more).status for more in ((), ("x-ext-authz: allow",))] == [401, 200]
        asks = authorizer("grpc", port, timeout="2s")
        server = ext_authz.start_grpc(port)
        await envoy.enforce(Guards(policies=(custom(paths=["/admin*"]),), authorizer=asks))
        for headers in DISGUISED:
            seen.clear()
            assert envoy.get("/admin", *headers, "x-ext-authz: allow").status == 200
            assert "one" in (told := ",".join(ext_authz.headers_of(seen[0])["x-who"])) and "two" in told, headers
        assert [envoy.get("/admin", NO_TEXT, *more).status for more in ((), ("x-ext-authz: allow",))] == [403, 200]
        server.stop(grace=None).wait()


class SlowServer(AuthorizerServer):
    """Says yes, a moment later."""

    def talk(self, connection: socket.socket, head: str) -> None:
        time.sleep(0.4)
        super().talk(connection, "x-ext-authz: allow")


async def test_an_authorizer_that_is_slow_or_away_opens_only_what_is_told_to_fail_open(tmp_path: Path) -> None:
    async with guarded(tmp_path, MeshConfig()) as envoy:

        async def answers(**settings: Any) -> tuple[int, int]:
            asks = authorizer("http", envoy.ports.other, timeout="0.1s", **settings)
            await envoy.enforce(Guards(policies=(custom(paths=["/admin*"]),), authorizer=asks))
            return envoy.get("/admin").status, envoy.get("/").status

        for server in (None, SlowServer):
            with serving(server(envoy.ports.other)) if server else contextlib.nullcontext():
                assert await answers() == (403, 200)
                assert await answers(statusOnError="503") == (503, 200)
                assert await answers(failOpen=True) == (200, 200)


class SilentServer(Server):
    """Takes what comes, and never says a word."""

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                pass


async def test_a_grpc_authorizer_that_is_silent_or_away_opens_only_what_is_told_to_fail_open(tmp_path: Path) -> None:
    async with guarded(tmp_path, MeshConfig()) as envoy:
        web, raw = envoy.ports.http, envoy.ports.tcp
        asked = (custom(paths=["/admin*"], ports=[str(web)]), custom("b", ports=[str(raw)]))

        async def answers(**settings: Any) -> tuple[int, int, int]:
            asks = authorizer("grpc", envoy.ports.other, timeout="0.1s", **settings)
            await envoy.enforce(Guards(policies=asked, authorizer=asks))
            began = time.monotonic()
            found = envoy.get("/admin").status, envoy.get("/").status, envoy.ask(raw, said("GET", "/", "a")).status
            assert time.monotonic() - began < 2, "each within its time"
            return found

        for server in (None, SilentServer):
            with serving(server(envoy.ports.other)) if server else contextlib.nullcontext():
                assert await answers() == (403, 200, 0)
                assert await answers(statusOnError="503") == (503, 200, 0)
                assert await answers(failOpen=True) == (200, 200, 200)


async def test_an_authorizer_over_grpc(tmp_path: Path) -> None:
    async with guarded(tmp_path, MeshConfig()) as envoy:
        server = ext_authz.start_grpc(envoy.ports.other)
        asks = authorizer("grpc", envoy.ports.other, timeout="2s")
        only_bytes = custom("b", ports=[str(envoy.ports.tcp)])
        await envoy.enforce(
            Guards(policies=(custom(paths=["/admin*"], ports=[str(envoy.ports.http)]), only_bytes), authorizer=asks)
        )
        assert envoy.get("/").status == 200
        refused = envoy.get("/admin", "x-ext-authz: please")
        assert (refused.status, refused.headers["x-ext-authz-check-result"]) == (403, "denied")
        assert envoy.get("/admin", "x-ext-authz: allow").status == 200
        assert envoy.ask(envoy.ports.tcp, said("GET", "/", "a.com")).status == 0
        server.stop(grace=None).wait()
