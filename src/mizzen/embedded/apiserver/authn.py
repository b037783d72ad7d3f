"""Who is asking: client certificates of the cluster's authority, and service-account tokens.

What they may do is decided in authorization.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, BadToken, Claims, TokenIssuer
from mizzen.embedded.apiserver.wire import ANONYMOUS, User

_MOST_KNOWN = 1000
OPEN_PATHS = ("/version", "/healthz", "/livez", "/readyz")


@lru_cache(maxsize=_MOST_KNOWN)
def certificate_user(subject: tuple[tuple[tuple[str, str], ...], ...]) -> User:
    """The user of a verified client certificate; `subject` as `ssl` gives it."""
    pairs = [pair for relative in subject for pair in relative]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return User(name, (*groups, "system:authenticated"))


class Authenticator:
    """Tokens are also checked against what they are bound to: a deleted Pod's token is worth nothing."""

    def __init__(self, store: Store, issuer: TokenIssuer) -> None:
        self._store = store
        self._issuer = issuer
        self._known: dict[bytes, Claims] = {}
        """Of callers, by the hash of their token: they send it with every request."""

    def user(self, peer: Mapping[str, Any] | None, authorization: str) -> User:
        """`peer` is `ssl`'s dict of a verified client certificate. Raises 401 for a token that does not hold."""
        if peer and peer.get("subject"):
            return certificate_user(peer["subject"])
        scheme, _, token = authorization.partition(" ")
        if not authorization:
            return ANONYMOUS
        if scheme.lower() != "bearer":
            raise errors.unauthorized()
        try:
            return self._caller(token.strip()).user()
        except BadToken:
            raise errors.unauthorized() from None

    def _caller(self, token: str) -> Claims:
        """A signature is checked once, all else each time. Raises BadToken."""
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        known = self._known.get(digest)
        if known is None or known.expires <= time.time():
            known = self._issuer.verify(token, API_AUDIENCES)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[digest] = known
        return self._still_bound(known)

    def claims(self, token: str, audiences: Sequence[str]) -> Claims:
        """Raises BadToken."""
        return self._still_bound(self._issuer.verify(token, audiences))

    def _still_bound(self, claims: Claims) -> Claims:
        """Raises BadToken when what the token is bound to has gone."""
        self._check_bound("serviceaccounts", claims.namespace, claims.account)
        for resource, reference in (("pods", claims.pod), ("secrets", claims.secret)):
            if reference:
                self._check_bound(resource, claims.namespace, reference)
        return claims

    def _check_bound(self, resource: str, namespace: str, reference: tuple[str, str]) -> None:
        entry = self._store.get(Key(resource, namespace, reference[0]))
        if entry is None or (reference[1] and entry.uid != reference[1]):
            raise BadToken(f"the {resource[:-1]} {namespace}/{reference[0]} that the token is bound to is gone")


def check_open(user: User, path: str) -> None:
    """Without a name one may only ask whether the server is well. Raises 401."""
    if user is ANONYMOUS and f"/{path.split('/')[1]}" not in OPEN_PATHS:
        raise errors.unauthorized()
