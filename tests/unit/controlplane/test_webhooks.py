from __future__ import annotations

from mizzen.controlplane.webhooks import patched
from mizzen.install.webhooks import mutating_webhook, validating_webhook


def test_our_bundle_is_put_in_once_and_turns_the_policy_to_fail() -> None:
    configuration = validating_webhook("istio-system")
    first = patched(configuration, "istiod", "istio-system", "/validate", "Q0E=")
    assert first is not None
    assert {one["failurePolicy"] for one in first["webhooks"]} == {"Fail"}
    assert {one["clientConfig"]["caBundle"] for one in first["webhooks"]} == {"Q0E="}
    assert patched(first, "istiod", "istio-system", "/validate", "Q0E=") is None


def test_other_peoples_webhooks_are_left_alone() -> None:
    configuration = mutating_webhook("elsewhere", by_default=False)
    assert patched(configuration, "istiod", "istio-system", "/inject", "Q0E=") is None
    external = {"webhooks": [{"name": "x", "clientConfig": {"url": "https://example.org"}}]}
    assert patched(external, "istiod", "istio-system", "/inject", "Q0E=") is None
