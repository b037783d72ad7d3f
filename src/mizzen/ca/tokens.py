"""Who presents a token: asked of the API server by TokenReview, never read from the token itself.

https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from mizzen.ca.spiffe import Identity
from mizzen.kube.api import JSON

AUDIENCE = "istio-ca"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_SERVICE_ACCOUNT = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"

Review: TypeAlias = Callable[[JSON], Awaitable[JSON]]
"""Creates a TokenReview and returns it with its status; raises `ApiError` when the API server cannot be asked."""


@dataclass(frozen=True, slots=True)
class BoundPod:
    """The Pod that a token was made for, in the service account's namespace. `uid` "" where nobody said it."""

    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Which Pod a token says that it is of. That proves nothing: it may only hurry what the review decides."""

    namespace: str
    pod: str


class Unauthenticated(Exception):
    """The caller did not prove who it is; the text says what was wrong and never contains the token."""


def claim_of(token: str) -> Claim | None:
    """What an unverified token says; None where it says nothing, or names that no Pod can have."""
    try:
        body = token.split(".")[1]
        said = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Said).bound
    except (IndexError, ValueError, msgspec.MsgspecError):
        return None
    if not (_LABEL.fullmatch(said.namespace) and _SUBDOMAIN.fullmatch(said.pod.name)) or len(said.pod.name) > 253:
        return None
    return Claim(said.namespace, said.pod.name)


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Bound(msgspec.Struct, frozen=True):
    namespace: str = ""
    pod: _Named = _Named()


class _Said(msgspec.Struct, frozen=True):
    bound: _Bound = msgspec.field(default=_Bound(), name="kubernetes.io")


def token_review(token: str) -> JSON:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }


async def identify(review: Review, token: str, trust_domain: str) -> tuple[Identity, BoundPod | None]:
    """The identity that the token proves, and the Pod that it is bound to. Raises Unauthenticated."""
    reviewed = await review(token_review(token))
    return identity_of(reviewed, trust_domain), pod_of(reviewed)


def pod_of(reviewed: JSON) -> BoundPod | None:
    extra = ((reviewed.get("status") or {}).get("user") or {}).get("extra") or {}
    name, uid = (str((extra.get(key) or [""])[0]) for key in (_POD_NAME, _POD_UID))
    return BoundPod(name, uid) if name else None


def identity_of(reviewed: JSON, trust_domain: str) -> Identity:
    """Reads a TokenReview that the API server has answered. Raises Unauthenticated."""
    status = reviewed.get("status") or {}
    if not status.get("authenticated"):
        raise Unauthenticated(f"the API server refuses the token: {status.get('error') or 'no reason given'}")
    if AUDIENCE not in (status.get("audiences") or ()):
        raise Unauthenticated(f"the token is not meant for the audience {AUDIENCE}")
    username = str((status.get("user") or {}).get("username", ""))
    namespace, _, account = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not username.startswith(_SERVICE_ACCOUNT) or not account:
        raise Unauthenticated(f"{username!r} is not a service account")
    return Identity(trust_domain, namespace, account)
