"""What holds in the place of a policy that cannot be read."""

from __future__ import annotations

from typing import Any

from mizzen.api.authorization import AuthorizationPolicy, RequestAuthentication, Rule
from mizzen.api.base import Metadata
from mizzen.api.networking import VirtualService
from mizzen.api.peer_authentication import PeerAuthentication
from mizzen.scope.standins import NO_KEYS, stand_in

METADATA = Metadata(name="a", namespace="b")


def standing(kind: type, spec: Any) -> Any:
    return stand_in(kind, METADATA, {"spec": spec})


def test_an_authorization_policy_denies_whom_it_selects() -> None:
    found = standing(AuthorizationPolicy, {"selector": {"matchLabels": {"app": "x"}}, "rules": 3})
    assert (found.spec.action, found.spec.rules, found.spec.selector.match_labels) == ("DENY", (Rule(),), {"app": "x"})
    assert found.metadata is METADATA


def test_a_selector_that_cannot_be_read_is_everybody() -> None:
    assert standing(AuthorizationPolicy, {"selector": {"matchLabels": 7}}).spec.selector is None
    assert standing(AuthorizationPolicy, "nonsense").spec.action == "DENY"


def test_a_peer_authentication_is_strict() -> None:
    assert standing(PeerAuthentication, {"mtls": {"mode": "STRICKT"}}).spec.mtls.mode == "STRICT"


def test_rules_of_tokens_that_can_be_read_stay_and_others_have_no_keys() -> None:
    given = [{"issuer": "good", "jwksUri": "https://a"}, {"issuer": "bad", "audiences": 3}, {"audiences": 3}, 9]
    rules = standing(RequestAuthentication, {"jwtRules": given}).spec.jwt_rules
    assert [(rule.issuer, rule.jwks) for rule in rules] == [("good", None), ("bad", NO_KEYS)]


def test_what_guards_nothing_has_no_stand_in() -> None:
    assert standing(VirtualService, {}) is None
