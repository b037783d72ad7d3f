"""The composition root: store, registry, admission, core, and the objects that every cluster begins with."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mizzen.embedded.apiserver import system_objects
from mizzen.embedded.apiserver.admission import AdmissionChain
from mizzen.embedded.apiserver.allocation import Allocations
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.authorization import Authorization
from mizzen.embedded.apiserver.core import Core
from mizzen.embedded.apiserver.field_owners import ManagedFields
from mizzen.embedded.apiserver.housekeeping import CRDS, Housekeeping
from mizzen.embedded.apiserver.info import Information
from mizzen.embedded.apiserver.local import LocalApi
from mizzen.embedded.apiserver.node_relay import NodeRelay
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.pki import read_authority
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.policies import Policies
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.reviews import Reviews
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.subresources import Subresources
from mizzen.embedded.apiserver.tokens import TokenIssuer
from mizzen.embedded.apiserver.webhook_calls import WebhookCalls
from mizzen.embedded.apiserver.webhooks import WebhookChain


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Application:
    """An API server without its sockets."""

    store: Store
    core: Core
    authenticator: Authenticator
    api: LocalApi
    calls: WebhookCalls
    relay: NodeRelay
    housekeeping: Housekeeping

    async def close(self) -> None:
        await self.housekeeping.stop()
        await self.calls.close()
        await self.store.close()


async def open_application(
    state: Path, pki: Pki, address: str = "127.0.0.1", *, families: Sequence[str] = ("IPv4",)
) -> Application:
    """Open the store in `state`, and write what every cluster begins with. Raises StoreTooNew."""
    store, registry = Store(state / "store.db"), Registry()
    allocations = Allocations(secrets.randbelow, families)
    store.listen(CRDS, registry.crd_changed)
    store.listen("services", allocations.service_changed)
    calls = WebhookCalls(store)
    rights = Rights(store)
    rights.listen()
    policies = Policies(store, registry, rights)
    chain = WebhookChain(store, calls.post, policies.conditions_hold)
    admission = AdmissionChain(store, chain, policies, allocations, rights, _now)
    objects = Objects(store, admission, ManagedFields(_now), _now)
    issuer = TokenIssuer(pki.service_account_key)
    authenticator = Authenticator(store, issuer)
    budgets = registry.find("policy", "v1", "poddisruptionbudgets")
    assert budgets is not None
    relay = NodeRelay(state / "run" / "node.sock")
    subresources = Subresources(objects, issuer, relay, budgets)
    reviews, information = Reviews(authenticator, rights), Information(registry, issuer, address)
    core = Core(store, registry, objects, reviews, subresources, information, Authorization(rights))
    api = LocalApi(core)
    await system_objects.write(api, pki)
    housekeeping = Housekeeping(store, registry, objects, functools.partial(read_authority, pki))
    housekeeping.start()
    return Application(store, core, authenticator, api, calls, relay, housekeeping)
