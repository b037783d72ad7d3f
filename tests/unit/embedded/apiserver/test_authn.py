"""Who is asking, again and again with one token."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mizzen.embedded.apiserver import authn
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, Claims, TokenIssuer
from mizzen.kube.api import ApiError

BOUND = {
    "namespace": "n",
    "serviceaccount": {"name": "sa", "uid": "u"},
    "pod": {"name": "p", "uid": "v"},
}


class Counting(TokenIssuer):
    checked = 0

    def verify(self, token: str, audiences: Any) -> Claims:
        self.checked += 1
        return super().verify(token, audiences)


@pytest.fixture
def issuer(tmp_path: Path) -> Counting:
    return Counting(ensure_pki(tmp_path).service_account_key)


def held(store: dict[str, str]) -> Store:
    """What is asked of a store here: an object's uid, by its name."""
    return cast(
        Store,
        SimpleNamespace(get=lambda key: uid and SimpleNamespace(uid=uid) if (uid := store.get(key.name)) else None),
    )


def test_a_signature_is_checked_once_and_the_rest_each_time(issuer: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    store = {"sa": "u", "p": "v"}
    who = Authenticator(held(store), issuer)
    token = f"Bearer {issuer.issue(BOUND, API_AUDIENCES, datetime.now(UTC), 600, 'id')}"
    assert [who.user(None, token).name for _ in range(3)] == ["system:serviceaccount:n:sa"] * 3
    assert issuer.checked == 1
    store["p"] = "another of that name"
    with pytest.raises(ApiError, match="Unauthorized"):
        who.user(None, token)
    store["p"] = "v"
    now = authn.time.time()
    monkeypatch.setattr(authn.time, "time", lambda: now + 601)
    who.user(None, token)
    assert issuer.checked == 2, "what has ended by our clock is checked anew"


def test_another_token_is_not_taken_for_a_known_one(issuer: Counting) -> None:
    who = Authenticator(held({"sa": "u", "p": "v"}), issuer)
    token = issuer.issue(BOUND, API_AUDIENCES, datetime.now(UTC), 600, "id")
    who.user(None, f"Bearer {token}")
    for forged in (token[:-4] + "AAAA", f"{token}x", "\udcff"):
        with pytest.raises(ApiError, match="Unauthorized"):
            who.user(None, f"Bearer {forged}")
