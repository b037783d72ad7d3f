"""Signing keys of an issuer that change, from its web server by way of the control plane to a real Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from envoys import until
from guarded import Guarded, guarded
from issuers import issuer
from mizzen.api.authorization import RequestAuthentication
from mizzen.api.mesh import MeshConfig
from mizzen.controlplane.keys import KeyFetcher
from mizzen.scope.guards import guards, key_sources
from mizzen.scope.snapshot import Change, KeySet, Snapshot, absent, present
from policies import authentication, key_set, token

pytestmark = pytest.mark.process

OLD, NEW = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
CLAIMS = {"iss": "here", "sub": "me"}


def together(*keys: ec.EllipticCurvePrivateKey) -> str:
    return json.dumps({"keys": [one for key in keys for one in json.loads(key_set(key))["keys"]]})


class Enforced:
    """What istiod does with tokens' keys: a snapshot that the fetcher adds to, and a proxy that is told."""

    def __init__(self, envoy: Guarded) -> None:
        self._envoy = envoy
        self._snapshot = Snapshot()
        self._news = asyncio.Event()
        self.fetcher = KeyFetcher(self._learned, lambda _: False, refresh=0.05)

    def _learned(self, change: Change) -> None:
        self._snapshot = self._snapshot.apply(change)
        self._news.set()

    def change(self, change: Change) -> None:
        self._learned(change)
        self.fetcher.want(key_sources(self._snapshot.table(RequestAuthentication)))

    async def until(self, *statuses: int) -> None:
        """So it is answered to the old key's token, to the new one's, and to none."""
        old, new = (f"authorization: Bearer {token(CLAIMS, key)}" for key in (OLD, NEW))
        async with asyncio.timeout(10):
            while (
                self._envoy.get("/", old).status,
                self._envoy.get("/", new).status,
                self._envoy.get("/").status,
            ) != statuses:
                await self.enforce()

    async def enforce(self) -> None:
        if self._news.is_set():
            self._news.clear()
            await self._envoy.enforce(guards(self._snapshot, "default", frozenset()))
        await asyncio.sleep(0.01)

    def failed(self) -> bool:
        """Whether the newest attempt to get keys did."""
        return any(one.failure for one in self._snapshot.table(KeySet))


async def test_signing_keys_follow_their_issuer(tmp_path: Path) -> None:
    """Old and new beside each other, the old one gone, the issuer away: its last keys count; a new rule has none."""
    answers: dict[str, str | Callable[[], str]] = {"/keys": together(OLD)}
    async with guarded(tmp_path, MeshConfig()) as envoy, issuer(answers) as base:
        enforced = Enforced(envoy)
        work = asyncio.create_task(enforced.fetcher.run())
        rule = authentication({"issuer": "here", "jwksUri": f"{base}/keys"})
        try:
            enforced.change(present(rule))
            await enforced.until(200, 401, 200)
            answers["/keys"] = together(OLD, NEW)
            await enforced.until(200, 200, 200)
            answers["/keys"] = together(NEW)
            await enforced.until(401, 200, 200)
            del answers["/keys"]
            await until(enforced.failed)
            await enforced.enforce()
            await enforced.until(401, 200, 200)
            enforced.change(absent(rule))
            await enforced.until(200, 200, 200)
            enforced.change(present(rule))
            await enforced.until(401, 401, 200)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
