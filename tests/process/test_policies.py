"""NetworkPolicies for real: a table in a private network namespace, and Pods behind veth pairs."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from mizzen.embedded.box.network import prepare_box, second_address
from mizzen.embedded.node.policies import NETWORK_POLICIES, Policies
from mizzen.embedded.node.policy_table import TABLE
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi
from mizzen.nftables.families import BOTH, IPV4
from mizzen.nftables.netlink import table_names
from wired_pods import HAS_IPV6, WiredPod

pytestmark = [pytest.mark.process, pytest.mark.root]
PODS = {"web": "10.244.0.11", "good": "10.244.0.12", "bad": "10.244.0.13"}


@pytest.fixture
def pods(private_network):
    prepare_box(ipv6=HAS_IPV6)
    started = {name: WiredPod(name, address) for name, address in PODS.items()}
    yield started
    for pod in started.values():
        pod.end()


def document(name):
    port = {"name": "http", "containerPort": 8080}
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "a", "ports": [port]}]}}


def policy(**spec):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, **spec},
    }


@asynccontextmanager
async def running(api):
    policies = Policies(api, BOTH if HAS_IPV6 else (IPV4,))
    task = asyncio.create_task(policies.run())
    policies.complete()
    try:
        for name, address in PODS.items():
            await policies.admit(document(name), addresses(address))
        yield policies
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def addresses(address):
    return (address, second_address(address)) if HAS_IPV6 else (address,)


async def reaches(pods, caller, expected, address="10.244.0.11", port=8080):
    """Until it is so. A dropped call takes its time."""
    deadline = time.monotonic() + 20
    while (told := await asyncio.to_thread(pods[caller].call, address, port)).startswith("web ") is not expected:
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.01)


GOOD = {"podSelector": {"matchLabels": {"app": "good"}}}


async def test_only_what_is_allowed_comes_in(pods):
    api = MemoryApi()
    await api.create(WELL_KNOWN.namespaces, {"metadata": {"name": "default"}})
    allowed = policy(ingress=[{"from": [GOOD], "ports": [{"port": "http"}]}])
    async with running(api) as policies:
        await reaches(pods, "bad", True)
        await api.create(NETWORK_POLICIES, allowed, "default")
        await reaches(pods, "bad", False)
        await reaches(pods, "good", True)
        if HAS_IPV6:
            await asyncio.to_thread(pods["bad"].take_link_local)
            past_the_box = await asyncio.to_thread(pods["web"].take_link_local)
            await reaches(pods, "bad", False, past_the_box)
        await reaches(pods, "web", True)  # nobody can be kept from calling himself
        renamed = document("bad")
        renamed["metadata"]["labels"] = {"app": "good"}
        policies.changed(renamed)
        await reaches(pods, "bad", True)
        await api.delete(NETWORK_POLICIES, "p", "default")
        await policies.admit(document("bad"), addresses(PODS["bad"]))
        await reaches(pods, "bad", True)
    assert TABLE in table_names()


async def test_a_pod_is_isolated_before_it_starts_and_a_restart_changes_nothing(pods):
    api = MemoryApi()
    await api.create(NETWORK_POLICIES, policy(podSelector=GOOD["podSelector"], policyTypes=["Egress"]), "default")
    async with running(api):
        await reaches(pods, "good", False)
    await reaches(pods, "good", False)
    async with running(api):
        await reaches(pods, "good", False)
        to_web = {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8000, "endPort": 8090}]}
        await api.replace(NETWORK_POLICIES, policy(podSelector={}, egress=[to_web], policyTypes=["Egress"]), "default")
        await reaches(pods, "good", True)


@pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")
async def test_a_policy_holds_for_ipv6_too(pods):
    web = pods["web"].second_address
    assert pods["web"].addresses == [web], "nobody has an address that he was not given"
    api = MemoryApi()
    async with running(api):
        await reaches(pods, "bad", True, web)
        allowed = policy(ingress=[{"from": [GOOD], "ports": [{"port": "http"}]}])
        await api.create(NETWORK_POLICIES, allowed, "default")
        await reaches(pods, "bad", False, web)
        await reaches(pods, "good", True, web)
        await reaches(pods, "web", True, web)
        block = {"ipBlock": {"cidr": f"{pods['bad'].second_address}/128"}}
        await api.replace(NETWORK_POLICIES, policy(ingress=[{"from": [block]}]), "default")
        await reaches(pods, "bad", True, web)
        await reaches(pods, "bad", False)
        await reaches(pods, "good", False, web)
