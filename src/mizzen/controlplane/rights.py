"""Which service accounts may read the Secrets of their namespace: asked of the API server, again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from mizzen.api.base import Metadata
from mizzen.kube.api import Api, ApiError, Resource
from mizzen.scope.snapshot import Change, SecretReader, absent, present

log = logging.getLogger(__name__)

Account: TypeAlias = tuple[str, str]
"""Namespace and name."""
REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)
REFRESH = 10.0
"""Seconds after which an answer is asked for anew."""


class SecretRights:
    """`want` says which accounts matter now; `tell` hears of every one whose right is other than before.

    An account about which nothing was ever learned has no right. While the API server cannot be asked, its last answer
    counts, like everything else that it said.
    """

    def __init__(self, api: Api, tell: Callable[[Change], None]) -> None:
        self._api = api
        self._tell = tell
        self._wanted: frozenset[Account] = frozenset()
        self._known: dict[Account, SecretReader] = {}
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()

    def want(self, accounts: frozenset[Account]) -> None:
        if accounts != self._wanted:
            self._wanted = accounts
            self._changed.set()

    async def known(self) -> None:
        """Returns when there is an answer about all that are wanted."""
        while not self._known.keys() >= self._wanted:
            await self._answered.wait()
            self._answered.clear()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            for gone in self._known.keys() - self._wanted:
                self._tell(absent(self._known.pop(gone)))
            for account in sorted(self._wanted, key=lambda one: (one in self._known, one)):
                await self._ask(account)
            try:
                await asyncio.wait_for(self._changed.wait(), REFRESH if self._wanted else None)
            except TimeoutError:
                continue

    async def _ask(self, account: Account) -> None:
        namespace, name = account
        try:
            answer = await self._api.create(REVIEWS, review(namespace, name))
            allowed = bool((answer.get("status") or {}).get("allowed"))
        except ApiError as error:
            log.warning("cannot ask whether %s.%s may read Secrets: %s", name, namespace, error)
            before = self._known.get(account)
            allowed = before is not None and before.allowed
        found = SecretReader(metadata=Metadata(name=name, namespace=namespace), allowed=allowed)
        if self._known.get(account) != found:
            self._known[account] = found
            self._tell(present(found))
        self._answered.set()


def review(namespace: str, account: str) -> dict[str, Any]:
    """Istio's own question: whether the account may list them."""
    return {
        "apiVersion": REVIEWS.api_version,
        "kind": REVIEWS.kind,
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "secrets"},
        },
    }
