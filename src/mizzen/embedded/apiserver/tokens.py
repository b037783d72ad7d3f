"""Service-account tokens: ES256 JWTs, bound to an object where asked, with audience and expiry.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON

ISSUER = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCES = (ISSUER,)
PREFIX = "system:serviceaccount:"
_EXTRA = "authentication.kubernetes.io/"
MIN_SECONDS = 600
MAX_SECONDS = 2**32


class BadToken(Exception):
    """Not a token of ours, expired, or for somebody else. The text may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `pod` and the others are (name, uid)."""

    namespace: str
    account: tuple[str, str]
    audiences: tuple[str, ...]
    identifier: str
    expires: float
    """Seconds since the epoch."""
    pod: tuple[str, str] | None = None
    secret: tuple[str, str] | None = None
    node: tuple[str, str] | None = None

    def user(self) -> User:
        name = f"{PREFIX}{self.namespace}:{self.account[0]}"
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")
        return User(name, groups, self.account[1], self._extra())

    def _extra(self) -> dict[str, list[str]]:
        found = {f"{_EXTRA}credential-id": [f"JTI={self.identifier}"]}
        for kind, reference in (("pod", self.pod), ("node", self.node)):
            if reference:
                found[f"{_EXTRA}{kind}-name"] = [reference[0]]
                if reference[1]:
                    found[f"{_EXTRA}{kind}-uid"] = [reference[1]]
        return found


class TokenIssuer:
    """Signs and verifies with the key in `pki/sa.key`."""

    def __init__(self, key_file: Path) -> None:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._public = key.public_key()
        self.key_id = _thumbprint(self._public)

    def issue(self, bound: JSON, audiences: Sequence[str], now: datetime, seconds: int, identifier: str) -> str:
        """`bound` is the `kubernetes.io` claim: namespace, serviceaccount and maybe pod, node, secret."""
        claims: dict[str, Any] = {
            "aud": list(audiences),
            "exp": int((now + timedelta(seconds=seconds)).timestamp()),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "iss": ISSUER,
            "jti": identifier,
            "kubernetes.io": bound,
            "sub": f"{PREFIX}{bound['namespace']}:{bound['serviceaccount']['name']}",
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self.key_id})

    def verify(self, token: str, audiences: Sequence[str]) -> Claims:
        """`Claims.audiences` is the intersection with `audiences`. Raises BadToken."""
        try:
            claims = jwt.decode(token, self._public, algorithms=["ES256"], issuer=ISSUER, audience=list(audiences))
        except (jwt.PyJWTError, UnicodeEncodeError) as error:
            raise BadToken(str(error)) from error
        bound = claims.get("kubernetes.io") or {}
        account = _reference(bound.get("serviceaccount"))
        if account is None:
            raise BadToken("the token names no service account")
        shared = tuple(each for each in claims["aud"] if each in audiences)
        others = {kind: _reference(bound.get(kind)) for kind in ("pod", "secret", "node")}
        return Claims(bound["namespace"], account, shared, claims.get("jti", ""), claims["exp"], **others)

    def jwks(self) -> JSON:
        """`/openid/v1/jwks`."""
        numbers = self._public.public_numbers()
        point = {"x": _base64url(numbers.x.to_bytes(32, "big")), "y": _base64url(numbers.y.to_bytes(32, "big"))}
        return {"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", **point}]}


def openid_configuration() -> JSON:
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def _reference(claim: JSON | None) -> tuple[str, str] | None:
    return (claim["name"], claim.get("uid", "")) if claim else None


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _base64url(hashlib.sha256(der).digest())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
