import pytest

from mizzen.agent import sds_messages as messages
from mizzen.agent.sds import Secrets, Subscription, answer_delta, answer_world, understand_delta, understand_world
from mizzen.envoy.resources import Resource


@pytest.fixture
async def secrets():
    held = Secrets()
    held.publish([Resource("default", "v1", b"key"), Resource("ROOTCA", "v1", b"roots")])
    return held


def names(due):
    return [secret.name for secret in due]


async def test_what_is_asked_for_is_sent_once(secrets):
    subscription = Subscription()
    subscription.subscribe(["default"])
    assert names(subscription.due(secrets)) == ["default"]
    assert subscription.due(secrets) == []


async def test_a_new_version_is_due_to_those_who_asked(secrets):
    subscription = Subscription()
    subscription.subscribe(["ROOTCA"])
    subscription.due(secrets)
    secrets.publish([Resource("default", "v2", b"other key")])
    assert subscription.due(secrets) == []
    secrets.publish([Resource("ROOTCA", "v2", b"other roots")])
    assert names(subscription.due(secrets)) == ["ROOTCA"]


async def test_a_secret_that_comes_later_is_due_then():
    secrets, subscription = Secrets(), Subscription()
    subscription.subscribe(["default"])
    assert subscription.due(secrets) == []
    secrets.publish([Resource("default", "v1", b"key")])
    assert names(subscription.due(secrets)) == ["default"]


async def test_versions_that_a_client_brings_along_are_not_sent_again(secrets):
    subscription = Subscription()
    request = messages.DeltaDiscoveryRequest(
        resource_names_subscribe=["default", "ROOTCA"], initial_resource_versions=[{"key": "default", "value": "v1"}]
    )
    understand_delta(subscription, request)
    assert names(subscription.due(secrets)) == ["ROOTCA"]


async def test_subscribing_again_asks_again(secrets):
    subscription = Subscription()
    subscription.subscribe(["default"])
    subscription.due(secrets)
    subscription.subscribe(["default"])
    assert names(subscription.due(secrets)) == ["default"]


async def test_an_acknowledgement_asks_for_nothing(secrets):
    subscription = Subscription()
    for understand, request in (
        (understand_delta, messages.DeltaDiscoveryRequest(response_nonce="1")),
        (understand_world, messages.DiscoveryRequest(resource_names=["default"], response_nonce="1")),
    ):
        subscription.subscribe(["default"])
        subscription.due(secrets)
        understand(subscription, request)
        assert subscription.due(secrets) == []


async def test_unsubscribing_ends_it(secrets):
    subscription = Subscription()
    subscription.subscribe(["default"])
    understand_delta(subscription, messages.DeltaDiscoveryRequest(resource_names_unsubscribe=["default"]))
    assert subscription.due(secrets) == []


async def test_both_protocols_carry_the_same_secret(secrets):
    subscription = Subscription()
    subscription.subscribe(["default"])
    due = subscription.due(secrets)
    delta, world = answer_delta(subscription, due), answer_world(subscription, due)
    assert delta.resources[0].resource.value == world.resources[0].value == b"key"
    assert (delta.resources[0].name, delta.resources[0].version, world.version_info) == ("default", "v1", "v1")
    assert delta.nonce != world.nonce


def test_secrets_are_written_as_envoy_reads_them():
    pair = messages.Secret.FromString(messages.key_and_chain("default", b"KEY", b"CHAIN"))
    assert pair.tls_certificate.private_key.inline_bytes == b"KEY"
    assert pair.tls_certificate.certificate_chain.inline_bytes == b"CHAIN"
    roots = messages.Secret.FromString(messages.trusted_roots("ROOTCA", b"ROOTS"))
    assert roots.validation_context.trusted_ca.inline_bytes == b"ROOTS"
