"""The cluster's DNS over real sockets, asked as a resolver in a Pod asks."""

import asyncio
import socket
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mizzen.embedded.node.dns import run_dns, serving
from mizzen.embedded.node.dns_upstream import Upstream
from mizzen.embedded.node.dns_zone import Zone
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi

pytestmark = pytest.mark.process


def service(name, cluster_ip, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": cluster_ip, "ports": [{"name": "http", "port": 80}], **spec},
    }


def endpoint_slice(name, addresses):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def nobody(name, kind):
    raise OSError("this test has no upstream")


async def somebody(name, kind):
    response = dns.message.make_response(dns.message.make_query(name, kind))
    if str(name) == "example.com.":
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.80"))
    else:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response


@asynccontextmanager
async def running(api, forward=nobody):
    port = free_port()
    task = asyncio.create_task(run_dns(api, "127.0.0.1", port, forward=forward))

    async def ask(name, kind="A", over=dns.asyncquery.udp, timeout=2.0):
        return await over(dns.message.make_query(name, kind), "127.0.0.1", port=port, timeout=timeout)

    try:
        await until_synced(ask)
        yield ask
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_synced(ask):
    for _ in range(200):
        try:
            if (await ask("svc.cluster.local", timeout=0.05)).rcode() != dns.rcode.SERVFAIL:
                return
        except dns.exception.Timeout:
            continue
        await asyncio.sleep(0.01)
    raise AssertionError("the server does not come up")


def answers(response):
    return sorted(str(data) for rrset in response.answer for data in rrset)


async def cluster():
    api = MemoryApi()
    await api.create(WELL_KNOWN.services, service("web", "10.96.0.7"), "default")
    return api


async def test_a_service_has_an_address_over_udp_and_tcp():
    async with running(await cluster()) as ask:
        for over in (dns.asyncquery.udp, dns.asyncquery.tcp):
            response = await ask("Web.default.svc.cluster.local", over=over)
            assert answers(response) == ["10.96.0.7"]
            assert response.flags & dns.flags.AA
            assert response.flags & dns.flags.RA


async def test_no_ipv6_is_no_data_and_not_no_such_name():
    async with running(await cluster()) as ask:
        response = await ask("web.default.svc.cluster.local", "AAAA")
        assert (response.rcode(), answers(response)) == (dns.rcode.NOERROR, [])
        assert response.authority[0].to_text().split()[3] == "SOA"


async def test_unknown_names_inside_are_refused_here_and_never_asked_elsewhere():
    async with running(await cluster()) as ask:
        assert (await ask("web.default.svc.default.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN


async def test_changes_are_answered_at_once():
    api = await cluster()
    async with running(api) as ask:
        assert (await ask("new.default.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN
        await api.create(WELL_KNOWN.services, service("new", "None"), "default")
        await api.create(WELL_KNOWN.endpointslices, endpoint_slice("new", ["10.244.0.9"]), "default")
        for _ in range(100):
            if answers(await ask("new.default.svc.cluster.local")) == ["10.244.0.9"]:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the new service is not known after half a second")


async def test_other_names_are_asked_elsewhere():
    async with running(await cluster(), somebody) as ask:
        assert answers(await ask("example.com")) == ["192.0.2.80"]
        assert (await ask("nope.example")).rcode() == dns.rcode.NXDOMAIN


async def test_without_an_upstream_the_answer_is_a_quick_failure():
    async with running(await cluster()) as ask:
        assert (await ask("example.com")).rcode() == dns.rcode.SERVFAIL


async def test_an_external_name_is_followed():
    api = await cluster()
    await api.create(
        WELL_KNOWN.services, service("out", None, type="ExternalName", externalName="example.com"), "default"
    )
    inside = service("in", None, type="ExternalName", externalName="web.default.svc.cluster.local")
    await api.create(WELL_KNOWN.services, inside, "default")
    async with running(api, somebody) as ask:
        assert answers(await ask("out.default.svc.cluster.local")) == ["192.0.2.80", "example.com."]
        assert answers(await ask("in.default.svc.cluster.local")) == ["10.96.0.7", "web.default.svc.cluster.local."]


async def test_services_and_addresses_name_each_other():
    async with running(await cluster(), somebody) as ask:
        assert answers(await ask("7.0.96.10.in-addr.arpa", "PTR")) == ["web.default.svc.cluster.local."]
        assert answers(await ask("_http._tcp.web.default.svc.cluster.local", "SRV")) == [
            "0 100 80 web.default.svc.cluster.local."
        ]
        assert (await ask("1.2.0.192.in-addr.arpa", "PTR")).rcode() == dns.rcode.NXDOMAIN


async def test_long_answers_are_cut_over_udp_and_whole_over_tcp():
    api = await cluster()
    addresses = [f"10.244.1.{number}" for number in range(1, 200)]
    await api.create(WELL_KNOWN.services, service("many", "None"), "default")
    await api.create(WELL_KNOWN.endpointslices, endpoint_slice("many", addresses), "default")
    async with running(api) as ask:
        assert (await ask("many.default.svc.cluster.local")).flags & dns.flags.TC
        assert len(answers(await ask("many.default.svc.cluster.local", over=dns.asyncquery.tcp))) == 199


async def test_nonsense_is_answered_or_ignored_and_harms_nobody():
    async with serving(lambda: Zone(), nobody, "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\x0e\x12\x34\1\0\0\1\0\0\0\0\0\0\xff\xff")
        size = int.from_bytes(await reader.readexactly(2), "big")
        assert dns.message.from_wire(await reader.readexactly(size)).rcode() == dns.rcode.FORMERR
        writer.close()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"?", ("127.0.0.1", port))
        query = dns.message.make_query("svc.cluster.local", "A")
        assert (await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=2)).rcode() == dns.rcode.NOERROR


async def test_before_the_cluster_is_known_no_name_is_denied():
    async with serving(lambda: None, nobody, "127.0.0.1", 0) as port:
        query = dns.message.make_query("web.default.svc.cluster.local", "A")
        response = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=2)
        assert response.rcode() == dns.rcode.SERVFAIL


async def test_the_last_answer_is_given_while_upstream_is_away():
    name = dns.name.from_text("example.com")
    async with serving(lambda: Zone(), somebody, "127.0.0.1", 0) as port:
        upstream = Upstream(["127.0.0.1"], port=port, patience=0.2)
        assert answers(await upstream(name, dns.rdatatype.A)) == ["192.0.2.80"]
    again = await upstream(name, dns.rdatatype.A)
    assert answers(again) == ["192.0.2.80"]
    assert again.answer[0].ttl <= 5
    with pytest.raises(OSError, match="no upstream server answers"):
        await upstream(dns.name.from_text("other.example"), dns.rdatatype.A)
