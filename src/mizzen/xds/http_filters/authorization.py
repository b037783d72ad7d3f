"""Who may ask for what: an authorizer of the user's own first, then what is audited, denied and allowed.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/rbac_filter
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.envoy.messages import HttpExtAuthz, HttpRbac
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Guards
from mizzen.xds.authorization import decisions
from mizzen.xds.ext_authz import http_ext_authz
from mizzen.xds.slots import Slot

NOBODY = HttpRbac(rules={"action": "ALLOW"})
"""Allows what one of its rules matches, and has none."""

CUSTOM_MATCH = Slot("mizzen.authz.custom-match", NOBODY)
CUSTOM = Slot("mizzen.authz.custom", NOBODY, others=(HttpExtAuthz,))
AUDIT = Slot("mizzen.authz.audit", NOBODY)
DENY = Slot("mizzen.authz.deny", NOBODY)
ALLOW = Slot("mizzen.authz.allow", NOBODY)


def contents(guards: Guards) -> Iterator[Resource]:
    """What is in each slot."""
    found = decisions(guards, http=True)
    yield CUSTOM_MATCH.content(HttpRbac(**found.custom._asdict()))
    yield CUSTOM.content(http_ext_authz(guards.authorizer) if guards.authorizer else HttpRbac())
    yield AUDIT.content(HttpRbac(**found.audit._asdict()))
    yield DENY.content(HttpRbac(**found.deny._asdict()))
    yield ALLOW.content(HttpRbac(**found.allow._asdict()))
