import pytest

from mizzen.embedded.node.policy_table import PodEndpoint, World, pod_endpoint, table, without_rules
from mizzen.nftables.difference import changes
from mizzen.nftables.families import BOTH, IPV4

WEB = PodEndpoint("default", {"app": "web"}, ("10.244.0.10",), {"http": (6, 8080)})
CLIENT = PodEndpoint("default", {"app": "client"}, ("10.244.0.11",))
BLUE = PodEndpoint("other", {"app": "client"}, ("10.244.0.12",), {"http": (6, 9090)})
NAMESPACES = {"default": {}, "other": {"team": "blue"}}


def policy(name="p", selector=None, **spec):
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"podSelector": selector or {}, **spec}}


def world(*policies, pods=(WEB, CLIENT, BLUE), families=(IPV4,)):
    return World(policies, NAMESPACES, pods, families)


def parts(*policies, **options):
    """The table's chains and sets by name, as text."""
    made = table(world(*policies, **options))
    return {each.name: [line.strip() for line in str(each).splitlines()[1:-1]] for each in (*made.chains, *made.sets)}


def test_without_policies_the_table_is_empty():
    assert (table(world()).chains, table(world()).sets) == ((), ())


def test_a_policy_isolates_the_pods_it_selects_and_no_others():
    found = parts(policy(selector={"matchLabels": {"app": "web"}}, policyTypes=["Ingress"]))
    assert found["ingress"] == ["type ipv4_addr", "10.244.0.10 : jump ingress/default/p,"]
    assert found["ingress/default/p"] == ["drop"]
    assert found["egress"] == ["type ipv4_addr"]


def test_policies_of_one_pod_are_joined():
    from_client = {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}
    found = parts(policy("a", policyTypes=["Ingress"]), policy("b", ingress=[from_client]))
    assert found["ingress/default/a+b"] == ["ip saddr @default/b/ingress/0/pods return", "drop"]
    assert found["default/b/ingress/0/pods"] == ["type ipv4_addr", "10.244.0.11,"]


def test_peers_are_pods_of_the_same_namespace_of_others_or_blocks():
    blue = {"namespaceSelector": {"matchLabels": {"team": "blue"}}}
    both = {**blue, "podSelector": {"matchLabels": {"app": "nobody"}}}
    block = {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}
    found = parts(policy(ingress=[{"from": [blue, block]}, {"from": [both]}]))
    assert found["default/p/ingress/0/pods"] == ["type ipv4_addr", "10.244.0.12,"]
    assert found["default/p/ingress/1/pods"] == ["type ipv4_addr"]
    assert "ip saddr 192.0.2.0/24 ip saddr != 192.0.2.128/25 return" in found["ingress/default/p"]


def test_an_empty_rule_allows_everything():
    assert parts(policy(ingress=[{}]))["ingress/default/p"][0] == "return"


def test_ports_are_numbers_names_or_ranges():
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": "http"}, {"port": 1000, "endPort": 2000}]
    found = parts(policy(ingress=[{"ports": ports}]))
    assert found["default/p/ingress/0/ports"] == ["type inet_proto . inet_service", "17 . 53,", "6 . 80,"]
    assert found["default/p/ingress/0/named"][1:] == ["10.244.0.10 . 6 . 8080,"]
    assert found["ingress/default/p"] == [
        "meta l4proto 6 th dport 1000-2000 return",
        "meta l4proto . th dport @default/p/ingress/0/ports return",
        "ip daddr . meta l4proto . th dport @default/p/ingress/0/named return",
        "drop",
    ]


def test_names_of_ports_are_those_of_the_pods_that_are_called():
    rule = {"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}
    found = parts(policy(egress=[rule], policyTypes=["Egress"]))
    assert found["default/p/egress/0/named"][1:] == ["10.244.0.10 . 6 . 8080,", "10.244.0.12 . 6 . 9090,"]


def test_calls_that_are_relayed_are_judged_by_where_they_were_going():
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}
    found = parts(policy(egress=[rule]))
    assert found["egress-outside/default/p"] == [
        "ct original ip daddr 192.0.2.0/24 meta l4proto . ct original proto-dst @default/p/egress/0/ports return",
        "drop",
    ]


def test_blocks_of_the_other_family_match_nothing_here():
    found = parts(policy(ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}]))
    assert found["ingress/default/p"] == ["drop"]


def test_pods_that_come_and_go_touch_no_rule():
    everyone = policy(ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}])
    before, after = table(world(everyone, pods=(WEB,))), table(world(everyone, pods=(WEB, CLIENT)))
    assert {change.noun for change in changes(before, after)} == {"elements"}


def test_a_policy_that_is_not_understood_allows_nothing():
    broken = policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.300/8"}}]}])
    with pytest.raises(ValueError, match=r"10\.0\.0\.300"):
        table(world(broken))
    assert parts(without_rules(broken))["ingress/default/p"] == ["drop"]


def test_long_lists_of_policies_have_short_names():
    names = [f"policy-number-{number}" for number in range(40)]
    (name,) = {each for each in parts(*map(policy, names)) if each.startswith("ingress/")}
    assert len(name) < 255


def test_named_ports_of_a_pod():
    ports = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}]
    pod = {"metadata": {"namespace": "n", "labels": {"a": "b"}}, "spec": {"containers": [{"ports": ports}]}}
    assert pod_endpoint(pod, ("10.244.0.9",)) == PodEndpoint("n", {"a": "b"}, ("10.244.0.9",), {"dns": (17, 53)})


def test_a_policy_holds_for_both_addresses_of_a_pod():
    web = PodEndpoint("default", {"app": "web"}, ("10.244.0.10", "fd00:10:244::a"), {"http": (6, 8080)})
    client = PodEndpoint("default", {"app": "client"}, ("10.244.0.11", "fd00:10:244::b"))
    peers = [{"podSelector": {"matchLabels": {"app": "client"}}}, {"ipBlock": {"cidr": "fd00:1::/32"}}]
    rules = [{"from": peers, "ports": [{"port": "http"}]}, {"ports": [{"port": 9090}]}]
    found = parts(policy(ingress=rules), pods=(web, client), families=BOTH)
    assert "fd00:10:244::a : jump ingress/default/p," in found["ingress-ipv6"]
    assert found["own-ipv6"][1:] == ["fd00:10:244::a . fd00:10:244::a,", "fd00:10:244::b . fd00:10:244::b,"]
    assert found["default/p/ingress/0/pods-ipv6"][1:] == ["fd00:10:244::b,"]
    assert found["default/p/ingress/0/named-ipv6"][1:] == ["fd00:10:244::a . 6 . 8080,"]
    named = "ip6 daddr . meta l4proto . th dport @default/p/ingress/0/named-ipv6 return"
    assert f"ip6 saddr @default/p/ingress/0/pods-ipv6 {named}" in found["ingress/default/p"]
    assert f"ip6 saddr fd00:1::/32 {named}" in found["ingress/default/p"]
    assert found["ingress/default/p"].count("drop") == 1
    assert (
        'iifname "mizzen0" ct original ip6 daddr != fd00:10:244::1 ip6 saddr vmap @egress-outside-ipv6'
        in found["input"]
    )
