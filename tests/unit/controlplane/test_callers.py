"""Who asks for a certificate, when what a token claims and what the API server says of it do not agree."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest

from mizzen.ca.tokens import Claim, Unauthenticated, claim_of
from mizzen.controlplane.callers import Callers
from mizzen.kube.api import JSON, WELL_KNOWN, ApiError, Resource, Unreachable
from mizzen.kube.memory import MemoryApi
from mizzen.scope.snapshot import Snapshot

OURS = "shop", "web-1"


def token(body: Any) -> str:
    """Signed by nobody."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return f"e30.{urlsafe_b64encode(content).rstrip(b'=').decode()}.c2ln"


def of(namespace: str, pod: str) -> str:
    return token({"kubernetes.io": {"namespace": namespace, "pod": {"name": pod, "uid": "claimed"}}})


class Server(MemoryApi):
    """Says of every token that it is of Pod `said` with `uid`, or refuses it; notes which Pods it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.said: tuple[str, str] | None = OURS
        self.uid: str | None = None
        self.reviewed = asyncio.Event()
        self.asked: list[tuple[str, str]] = []
        self.failures: list[ApiError] = []
        self.slow = False
        self.given_up = False

    async def pod(self, namespace: str, name: str, version: str) -> str:
        metadata = {"name": name, "labels": {"app": name, "version": version}}
        made = await self.create(WELL_KNOWN.pods, {"metadata": metadata, "spec": {}}, namespace)
        return str(made["metadata"]["uid"])

    async def create(self, resource: Resource, obj: JSON, *rest: Any, **more: Any) -> JSON:
        if resource != WELL_KNOWN.tokenreviews:
            return await super().create(resource, obj, *rest, **more)
        await asyncio.sleep(0)  # whatever was begun beside us has begun now
        self.reviewed.set()
        if self.said is None:
            return {"status": {"authenticated": False, "error": "no"}}
        (namespace, pod), names = self.said, "authentication.kubernetes.io/pod-"
        extra = {f"{names}name": [pod], **({f"{names}uid": [self.uid]} if self.uid else {})}
        user = {"username": f"system:serviceaccount:{namespace}:web", "extra": extra}
        return {"status": {"authenticated": True, "audiences": ["istio-ca"], "user": user}}

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JSON:
        self.asked.append((namespace or "", name))
        if self.slow:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up = True
        if self.failures:
            raise self.failures.pop(0)
        return await super().get(resource, name, namespace)


@pytest.fixture
async def server() -> Server:
    made = Server()
    made.uid = await made.pod(*OURS, version="v1")
    return made


async def subject(server: Server, presented: str) -> tuple[str, str, str, str]:
    caller = await Callers(server, Snapshot).identify(presented)
    assert caller.workload is not None
    return caller.identity.namespace, caller.pod, caller.workload.app, caller.workload.version


async def test_a_true_claim_costs_one_look_at_the_pod(server: Server) -> None:
    assert await subject(server, of(*OURS)) == (*OURS, "web-1", "v1")
    assert server.asked == [OURS]


@pytest.mark.parametrize("claimed", [("bank", "vault-1"), ("shop", "bank-1"), ("bank", "web-1")])
async def test_a_claim_to_be_another_pod_gets_nothing_of_it(server: Server, claimed: tuple[str, str]) -> None:
    await server.pod(*claimed, version="v9")
    assert await subject(server, of(*claimed)) == (*OURS, "web-1", "v1")
    assert server.asked == [claimed, OURS]


async def test_a_claim_that_no_pod_could_make_asks_nobody(server: Server) -> None:
    assert await subject(server, of("shop", "../../../secrets/bank")) == (*OURS, "web-1", "v1")
    assert server.asked == [OURS]


async def test_a_token_of_an_earlier_pod_gets_nothing_of_its_namesake(server: Server) -> None:
    server.uid = "an-earlier-one"
    with pytest.raises(Unauthenticated, match="an earlier Pod"):
        await subject(server, of(*OURS))
    assert server.asked == [OURS, OURS]


async def test_without_a_uid_in_the_review_the_pod_is_read_after_it(server: Server) -> None:
    server.uid = None
    assert await subject(server, of(*OURS)) == (*OURS, "web-1", "v1")
    assert server.asked == [OURS, OURS]


async def test_a_refused_token_ends_the_look_that_it_began(server: Server) -> None:
    server.said, server.slow = None, True
    with pytest.raises(Unauthenticated, match="refuses the token"):
        await subject(server, of(*OURS))
    await asyncio.sleep(0)
    assert server.asked == [OURS] and server.given_up


async def test_a_failure_beside_the_review_decides_nothing(server: Server) -> None:
    server.failures = [Unreachable(0, "", "once")]
    assert await subject(server, of(*OURS)) == (*OURS, "web-1", "v1")
    server.failures = [Unreachable(0, "", "once"), Unreachable(0, "", "twice")]
    with pytest.raises(Unreachable, match="twice"):
        await subject(server, of(*OURS))


@pytest.mark.parametrize(
    ("presented", "expected"),
    [
        (of("shop", "web-1.a"), Claim("shop", "web-1.a")),
        (of("shop.a", "web-1"), None),
        (of("", "web-1"), None),
        (of("shop", ""), None),
        (of("shop", "web-1?limit=1"), None),
        (of("shop", "web-1/log"), None),
        (of("shop", ".."), None),
        (of("shop", "web\n"), None),
        (of("s" * 64, "web-1"), None),
        (of("shop", ".".join(["w" * 60] * 5)), None),
        (token({"kubernetes.io": {"namespace": ["shop"], "pod": {"name": "web-1"}}}), None),
        (token({"kubernetes.io": {"namespace": "shop", "pod": None}}), None),
        (token({"sub": "system:serviceaccount:shop:web"}), None),
        (token([]), None),
        (token(b"\xff"), None),
        ("a.ä.c", None),
        ("a.b.c", None),
        ("no-token", None),
        ("", None),
    ],
)
def test_what_a_token_claims_is_a_name_or_nothing(presented: str, expected: Claim | None) -> None:
    assert claim_of(presented) == expected
