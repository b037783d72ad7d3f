import pytest

from mizzen.embedded.node.service_table import service_ports, state_of, table
from mizzen.nftables.difference import changes
from mizzen.nftables.families import IPV4, IPV6

VIP = "10.96.7.7"


def service(name="web", ports=({"name": "http", "port": 80},), created="2026-01-01T00:00:00Z", status=None, **spec):
    return {
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": created},
        "spec": {"clusterIP": VIP, "ports": list(ports), **spec},
        "status": status or {},
    }


def endpoint_slice(*endpoints, port=8080, name="http", service_name="web", **fields):
    return {
        "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }


def at(address, **conditions):
    return {"addresses": [address], "conditions": conditions}


def only_port(services, slices, **options):
    (port,) = service_ports(services, slices, **options)
    return port


def test_ready_endpoints_answer():
    slices = [endpoint_slice(at("10.244.0.2", ready=True), at("10.244.0.3", ready=False), at("10.244.0.4"))]
    assert only_port([service()], slices).endpoints == (("10.244.0.2", 8080), ("10.244.0.4", 8080))


def test_endpoints_that_end_serve_when_nobody_else_does():
    ending = at("10.244.0.3", ready=False, serving=True, terminating=True)
    assert only_port([service()], [endpoint_slice(ending)]).endpoints == (("10.244.0.3", 8080),)
    both = endpoint_slice(ending, at("10.244.0.2", ready=True))
    assert only_port([service()], [both]).endpoints == (("10.244.0.2", 8080),)


def test_a_slices_port_belongs_to_the_service_port_of_its_name():
    slices = [endpoint_slice(at("10.244.0.2")), endpoint_slice(at("10.244.0.2"), name="admin", port=9090)]
    ports = service_ports([service(ports=[{"name": "http", "port": 80}, {"name": "admin", "port": 81}])], slices)
    assert [port.endpoints for port in ports] == [(("10.244.0.2", 8080),), (("10.244.0.2", 9090),)]


def test_several_slices_of_one_service_are_joined():
    slices = [endpoint_slice(at("10.244.0.2")), endpoint_slice(at("10.244.0.3"))]
    assert len(only_port([service()], slices).endpoints) == 2


def test_slices_of_other_services_and_of_ipv6_are_not_ours():
    slices = [endpoint_slice(at("10.244.0.2"), service_name="other"), endpoint_slice(at("fd00::2"), addressType="IPv6")]
    assert only_port([service()], slices).endpoints == ()


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": None}, {"type": "ExternalName"}])
def test_services_without_an_address_are_left_out(spec):
    assert service_ports([service(**spec)], []) == []


def test_external_addresses_are_the_services_too():
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "example.com"}]}}
    port = only_port([service(externalIPs=["192.0.2.2"], status=status)], [])
    assert port.addresses == ((VIP, 80), ("192.0.2.2", 80), ("192.0.2.1", 80))


def test_what_listens_on_its_own_address_is_left_alone():
    port = only_port([service()], [], own_addresses=frozenset({VIP}))
    assert port.addresses == ()
    assert state_of([port]).refused == frozenset()


def test_a_service_without_endpoints_is_refused_and_not_translated():
    state = state_of(service_ports([service(ports=[{"name": "http", "port": 80, "nodePort": 31000}])], []))
    assert (state.vips, state.node_ports, state.chains) == ({}, {}, {})
    assert state.refused == {(VIP, 6, 80)}
    assert state.refused_node_ports == {(6, 31000)}


def test_the_older_service_keeps_an_address_that_two_claim():
    services = [service("new", created="2026-02-01T00:00:00Z"), service("old")]
    slices = [endpoint_slice(at("10.244.0.2"), service_name=name) for name in ("new", "old")]
    assert state_of(service_ports(services, slices)).vips == {(VIP, 6, 80): "default/old/tcp/80"}


def test_the_table_reads_like_nft():
    state = state_of(service_ports([service()], [endpoint_slice(at("10.244.0.2"), at("10.244.0.3"))]))
    text = str(table(state))
    assert "\tmap vips {\n\t\ttype ipv4_addr . inet_proto . inet_service\n" in text
    assert f"\t\t{VIP} . 6 . 80 : goto default/web/tcp/80,\n" in text
    assert "\t\tip daddr . meta l4proto . th dport vmap @vips\n" in text
    assert "\t\tendpoint set numgen random mod 2 map @default/web/tcp/80 dnat ip to endpoint\n" in text
    assert "\t\tct status & 0x20 != 0 ip saddr . ip daddr @hairpin masquerade\n" in text


def kinds(before, after):
    return [(message.verb, message.noun) for message in changes(table(state_of(before)), table(state_of(after)))]


def test_a_new_endpoint_touches_its_chain_and_no_address():
    before = service_ports([service()], [endpoint_slice(at("10.244.0.2"))])
    after = service_ports([service()], [endpoint_slice(at("10.244.0.2"), at("10.244.0.3"))])
    assert kinds(before, before) == []
    assert kinds(before, after) == [
        ("delete", "rule"),
        ("new", "elements"),
        ("new", "elements"),
        ("new", "rule"),
    ]


def test_a_client_stays_with_its_endpoint_while_that_is_there():
    affine = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    text = str(table(state_of(service_ports([affine], [endpoint_slice(at("10.244.0.2"), at("10.244.0.3"))]))))
    chain = "default/web/tcp/80"
    assert f"\tmap {chain}/clients {{\n\t\tflags dynamic,timeout\n" in text
    stays = f"endpoint set ip saddr map @{chain}/clients endpoint @{chain}/known"
    keeps = f"update @{chain}/clients {{ ip saddr timeout 60s : endpoint }} dnat ip to endpoint"
    assert f"\t\t{stays} {keeps}\n" in text
    anew = f"endpoint set numgen random mod 2 map @{chain} delete @{chain}/clients {{ ip saddr }}"
    assert f"\t\t{anew} {keeps}\n" in text
    assert only_port([service(sessionAffinity="ClientIP")], []).affinity == 10800


def test_each_family_has_chains_and_sets_of_its_own():
    both = service(
        clusterIPs=[VIP, "fd00:10:96::7"],
        sessionAffinity="ClientIP",
        ports=[{"name": "http", "port": 80, "nodePort": 31000}],
    )
    slices = [endpoint_slice(at("10.244.0.2")), endpoint_slice(at("fd00:10:244::2"), addressType="IPv6")]
    states = [state_of(service_ports([both], slices, family=family), family) for family in (IPV4, IPV6)]
    assert states[1].vips == {("fd00:10:96::7", 6, 80): "default/web/tcp/80-ipv6"}
    assert states[1].chains["default/web/tcp/80-ipv6"].endpoints == (("fd00:10:244::2", 8080),)
    text = str(table(*states))
    assert "\t\tip6 daddr . meta l4proto . th dport vmap @vips-ipv6\n" in text
    assert "fib daddr type 2 ip6 daddr != ::1/128 meta l4proto . th dport vmap @node-ports-ipv6" in text
    assert (
        "update @default/web/tcp/80-ipv6/clients { ip6 saddr timeout 10800s : endpoint } dnat ip6 to endpoint" in text
    )
    assert "ct status & 0x20 != 0 ip6 saddr . ip6 daddr @hairpin-ipv6 masquerade" in text


def test_a_service_of_one_family_is_not_called_by_the_other():
    assert service_ports([service()], [], family=IPV6) == []
    assert service_ports([service(clusterIP="fd00:10:96::7")], []) == []
