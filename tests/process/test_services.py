"""ClusterIPs and node ports for real: a table in a private network namespace, and Pods behind veth pairs."""

import asyncio
import socket
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from mizzen.embedded.box.network import GATEWAY_IPV6, prepare_box
from mizzen.embedded.node.service_table import TABLE
from mizzen.embedded.node.services import run_services
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi
from mizzen.nftables.families import BOTH, IPV4
from mizzen.nftables.messages import delete_table
from mizzen.nftables.netlink import commit, table_names
from wired_pods import HAS_IPV6, WiredPod

pytestmark = [pytest.mark.process, pytest.mark.root]

VIP = "10.96.7.7"


@pytest.fixture
def pods(private_network):
    prepare_box(ipv6=HAS_IPV6)
    started = [WiredPod("one", "10.244.0.11"), WiredPod("two", "10.244.0.12")]
    yield started
    for pod in started:
        pod.end()


def service(**spec):
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": VIP, "ports": ports, **spec},
    }


def endpoint_slice(*addresses, family="IPv4"):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"web-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


@asynccontextmanager
async def running(api):
    task = asyncio.create_task(run_services(api, families=BOTH if HAS_IPV6 else (IPV4,)))
    try:
        while TABLE not in table_names():
            await asyncio.sleep(0.01)
            assert not task.done(), task.result()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds=5.0):
    give_up = time.monotonic() + seconds
    while not (result := await asyncio.to_thread(condition)):
        assert time.monotonic() < give_up, "it did not happen in time"
        await asyncio.sleep(0.01)
    return result


def call(address, port):
    try:
        with socket.create_connection((address, port), 0.3) as connection:
            return connection.recv(100).decode().split()[0]
    except OSError as error:
        return error.strerror or str(error)


async def served(api, *pods, **spec):
    await api.create(WELL_KNOWN.services, service(**spec), "default")
    await api.create(WELL_KNOWN.endpointslices, endpoint_slice(*(pod.address for pod in pods)), "default")


async def test_calls_are_spread_over_the_endpoints(pods):
    api = MemoryApi()
    await served(api, *pods)
    async with running(api):
        answers = Counter([await asyncio.to_thread(call, VIP, 80) for _ in range(60)])
    assert set(answers) == {"one", "two"}
    assert min(answers.values()) >= 10


async def test_pods_call_services_with_their_own_address_and_even_themselves(pods):
    api = MemoryApi()
    await served(api, pods[0])
    async with running(api):
        assert pods[1].call(VIP, 80) == "one 10.244.0.12"
        assert pods[0].call(VIP, 80).startswith("one ")


async def test_datagrams_find_their_way(pods):
    api = MemoryApi()
    await served(api, pods[1])
    async with running(api):
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(b"hello", (VIP, 53))
            assert client.recv(100) == b"two"


async def test_endpoints_come_and_go(pods):
    one, two = pods
    api = MemoryApi()
    await served(api, one)
    async with running(api):
        assert call(VIP, 80) == "one"
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(two.address), "default")
        await until(lambda: call(VIP, 80) == "two")
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(), "default")
        await until(lambda: call(VIP, 80) == "Connection refused")
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(one.address), "default")
        await until(lambda: call(VIP, 80) == "one")
        await api.delete(WELL_KNOWN.services, "web", "default")
        await until(lambda: call(VIP, 80) not in ("one", "Connection refused"))


async def test_without_endpoints_pods_are_refused_at_once(pods):
    api = MemoryApi()
    await served(api)
    async with running(api):
        began = time.monotonic()
        assert "refused" in pods[0].call(VIP, 80)
        assert time.monotonic() - began < 1


async def test_a_client_stays_with_its_endpoint(pods):
    api = MemoryApi()
    affine = {"ports": [{"name": "http", "port": 80, "nodePort": 31080}], "sessionAffinity": "ClientIP"}
    await served(api, *pods, **affine)
    async with running(api):
        for address, port in ((VIP, 80), ("10.244.0.1", 31080)):
            assert len({call(address, port) for _ in range(12)}) == 1
        first = call(VIP, 80)
        other = next(pod for pod in pods if pod.name != first)
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(other.address), "default")
        await until(lambda: call(VIP, 80) == other.name)
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(*(pod.address for pod in pods)), "default")
        assert {call(VIP, 80) for _ in range(12)} == {other.name}
        affine["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 1}}
        await api.replace(WELL_KNOWN.services, service(**affine), "default")
        # Forgotten a second after its last call, it is sent anywhere again: each time by chance.
        await until(lambda: call(VIP, 80) == first or time.sleep(1.05), seconds=60)


async def test_node_ports_and_external_addresses(pods):
    api = MemoryApi()
    port = {"name": "http", "port": 80, "nodePort": 31080}
    await served(api, pods[0], type="LoadBalancer", ports=[port], externalIPs=["10.244.0.1"])
    async with running(api):
        assert call("10.244.0.1", 31080) == "one"
        assert call("10.244.0.1", 80) == "one"
        assert pods[1].call("10.244.0.1", 31080) == "one 10.244.0.12"


async def test_a_restart_takes_over_without_cutting_connections(pods):
    api = MemoryApi()
    await served(api, pods[0])
    async with running(api):
        assert call(VIP, 80) == "one"
    assert call(VIP, 80) == "one"
    async with running(api):
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(pods[1].address), "default")
        await until(lambda: call(VIP, 80) == "two")


async def test_a_table_that_someone_removed_is_written_anew(pods):
    api = MemoryApi()
    await served(api, pods[0])
    async with running(api):
        commit([delete_table(TABLE)])
        await api.replace(WELL_KNOWN.endpointslices, endpoint_slice(pods[1].address), "default")
        await until(lambda: call(VIP, 80) == "two")


@pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")
async def test_a_service_of_both_families(pods):
    one, two = pods
    vip, node = "fd00:10:96::77", GATEWAY_IPV6
    api = MemoryApi()
    ports = [{"name": "http", "port": 80, "nodePort": 31080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    await served(api, one, clusterIPs=[VIP, vip], ports=ports)
    async with running(api):
        await until(lambda: "refused" in call(vip, 80))
        assert "refused" in two.call(vip, 80)
        assert call(VIP, 80) == "one"
        slices = endpoint_slice(two.second_address, family="IPv6")
        await api.create(WELL_KNOWN.endpointslices, slices, "default")
        await until(lambda: call(vip, 80) == "two")
        assert one.call(vip, 80) == f"two {one.second_address}"
        assert two.call(vip, 80).startswith("two ")  # itself
        assert call(node, 31080) == "two"
        assert one.call(node, 31080) == f"two {one.second_address}"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(b"hello", (vip, 53))
            assert client.recv(100) == b"two"
        assert call(VIP, 80) == "one"
        affine = service(clusterIPs=[VIP, vip], ports=ports, sessionAffinity="ClientIP")
        await api.replace(WELL_KNOWN.services, affine, "default")
        both = endpoint_slice(one.second_address, two.second_address, family="IPv6")
        await api.replace(WELL_KNOWN.endpointslices, both, "default")
        await until(lambda: len({call(vip, 80) for _ in range(12)}) == 1)
