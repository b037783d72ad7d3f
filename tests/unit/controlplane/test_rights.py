"""Service accounts' rights to Secrets, as the API server tells them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from envoys import until
from mizzen.controlplane import rights as module
from mizzen.controlplane.rights import SecretRights, review
from mizzen.kube.api import ApiError
from mizzen.scope.snapshot import Change


class Server:
    """Answers reviews; `allowed` are users, None breaks."""

    def __init__(self, *allowed: str) -> None:
        self.allowed: set[str] | None = set(allowed)
        self.asked = 0

    async def create(self, _: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.allowed is None:
            raise ApiError(500, "InternalError", "broken")
        return {"status": {"allowed": body["spec"]["user"] in self.allowed}}


async def told(server: Server, accounts: set[tuple[str, str]], count: int) -> list[Change]:
    found: list[Change] = []
    rights = SecretRights(server, found.append)  # type: ignore[arg-type]
    rights.want(frozenset(accounts))
    work = asyncio.create_task(rights.run())
    await until(lambda: len(found) >= count)
    rights.want(frozenset())
    await until(lambda: len(found) >= 2 * count)
    work.cancel()
    return found


async def test_who_is_asked_about_is_told_and_forgotten() -> None:
    server = Server("system:serviceaccount:a:good")
    found = await told(server, {("a", "good"), ("a", "bad")}, 2)
    states = [(one.namespace, one.name, one.after.allowed) for one in found if one.after]  # type: ignore[attr-defined]
    assert states == [("a", "bad", False), ("a", "good", True)]
    assert {(one.name, one.after) for one in found[2:]} == {("good", None), ("bad", None)}


async def test_what_cannot_be_asked_is_not_allowed() -> None:
    server = Server()
    server.allowed = None
    (first, _) = await told(server, {("a", "x")}, 1)
    assert first.after is not None and not first.after.allowed  # type: ignore[attr-defined]


async def test_the_last_answer_counts_while_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH", 0.001)
    server, found = Server("system:serviceaccount:a:good"), list[Change]()
    rights = SecretRights(server, found.append)  # type: ignore[arg-type]
    rights.want(frozenset({("a", "good")}))
    work = asyncio.create_task(rights.run())
    await until(lambda: len(found) == 1)
    server.allowed = None
    asked = server.asked
    await until(lambda: server.asked > asked + 3)
    assert len(found) == 1
    server.allowed = set()
    await until(lambda: len(found) == 2)
    work.cancel()
    assert [one.after.allowed for one in found if one.after] == [True, False]  # type: ignore[attr-defined]


def test_the_question_is_istios() -> None:
    spec = review("ns", "sa")["spec"]
    assert spec["user"] == "system:serviceaccount:ns:sa"
    assert spec["resourceAttributes"] == {"namespace": "ns", "verb": "list", "resource": "secrets"}
