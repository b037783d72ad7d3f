"""What a connection meets before its bytes are passed on: the same checks as a request, as far as they apply.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/rbac_filter
These slots belong into chains of bytes alone: in one of HTTP their rules would cut connections instead of answering.
The check comes with the first byte of the client; what is open keeps the rules that it began with.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.envoy.messages import Message, NetworkExtAuthz, NetworkRbac
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Guards
from mizzen.xds.authorization import Rules, decisions
from mizzen.xds.ext_authz import network_ext_authz
from mizzen.xds.slots import Slot

STAT_PREFIX = "tcp."
NOBODY = NetworkRbac(rules={"action": "ALLOW"}, stat_prefix=STAT_PREFIX)

CUSTOM_MATCH = Slot("mizzen.tcp-authz.custom-match", NOBODY)
CUSTOM = Slot("mizzen.tcp-authz.custom", NOBODY, others=(NetworkExtAuthz,))
AUDIT = Slot("mizzen.tcp-authz.audit", NOBODY)
DENY = Slot("mizzen.tcp-authz.deny", NOBODY)
ALLOW = Slot("mizzen.tcp-authz.allow", NOBODY)

GUARDS: tuple[Message, ...] = tuple(slot.network_filter() for slot in (CUSTOM_MATCH, CUSTOM, AUDIT, DENY, ALLOW))
"""In front of `tcp_proxy`, for connections that come in."""


def contents(guards: Guards) -> Iterator[Resource]:
    """What is in each slot."""
    found = decisions(guards, http=False)
    authorizer = network_ext_authz(guards.authorizer) if guards.authorizer else None
    yield CUSTOM_MATCH.content(_rbac(found.custom))
    yield CUSTOM.content(authorizer or _rbac(Rules()))
    yield AUDIT.content(_rbac(found.audit))
    yield DENY.content(_rbac(found.deny))
    yield ALLOW.content(_rbac(found.allow))


def _rbac(rules: Rules) -> Message:
    return NetworkRbac(**rules._asdict(), stat_prefix=STAT_PREFIX)
