import pytest

from mizzen.nftables import kinds
from mizzen.nftables.expressions import FIRST_WORD, VALUE, compare, lookup, mask, meta, payload
from mizzen.nftables.fields import CT_STATUS, DNAT, IP_DADDR, L4PROTO, OIFNAME, TCP_DPORT, TH_DPORT
from mizzen.nftables.messages import (
    create_table,
    delete_elements,
    flush_chain,
    new_chain,
    new_elements,
    new_set,
    replace_table,
)
from mizzen.nftables.ruleset import (
    Chain,
    Goto,
    Hook,
    NamedMap,
    NamedSet,
    Rule,
    Table,
    in_set,
    jump,
    leave,
    redirect,
    verdict_map,
)

WEB = Chain("web", (Rule(TCP_DPORT.is_(80), redirect(8080)),))
ENTRY = Chain("entry", (Rule(OIFNAME.is_("lo"), leave()), Rule(jump("web"))), Hook("nat", "output", -100))


def test_a_port_brings_its_protocol_and_an_address_its_family():
    is_tcp = (meta(16), compare(b"\x06"))
    assert TCP_DPORT.is_(80).expressions == (*is_tcp, payload("transport", 2, 2), compare(b"\x00\x50"))
    is_ipv4 = (meta(15), compare(b"\x02"))
    assert IP_DADDR.is_not("10.0.0.1").expressions == (
        *is_ipv4,
        payload("network", 16, 4),
        compare(b"\x0a\0\0\x01", equal=False),
    )


def test_a_network_is_compared_under_its_mask():
    assert IP_DADDR.within("10.1.2.3/16").expressions[-2:] == (mask(b"\xff\xff\0\0"), compare(b"\x0a\x01\0\0"))
    assert str(IP_DADDR.not_within("10.1.2.3/16")) == "ip daddr != 10.1.0.0/16"


def test_bits_are_tested_by_comparing_with_none():
    assert CT_STATUS.has_bits(DNAT).expressions[-2:] == (mask(b"\x20\0\0\0"), compare(b"\0\0\0\0", equal=False))


def test_interface_names_fill_their_register():
    assert OIFNAME.is_("lo").expressions[-1] == compare(b"lo".ljust(16, b"\0"))


def test_a_concatenation_stands_side_by_side_after_its_guards():
    code = verdict_map((IP_DADDR, L4PROTO, TH_DPORT), "vips").expressions
    assert code == (
        meta(15),
        compare(b"\x02"),
        payload("network", 16, 4, FIRST_WORD),
        meta(16, FIRST_WORD + 1),
        payload("transport", 2, 2, FIRST_WORD + 2),
        lookup("vips", FIRST_WORD, 0),
    )
    assert in_set((TH_DPORT,), "ports").expressions == (payload("transport", 2, 2), lookup("ports", VALUE))


def test_values_of_a_concatenation_are_padded_to_words():
    key = (kinds.IPV4_ADDR, kinds.INET_PROTO, kinds.INET_SERVICE)
    assert kinds.concatenated(key, ("10.0.0.1", 6, 80)) == b"\x0a\0\0\x01" + b"\x06\0\0\0" + b"\0\x50\0\0"
    assert kinds.concatenated_length(key) == 12
    assert kinds.concatenated((kinds.INET_SERVICE,), (80,)) == b"\0\x50"
    assert kinds.concatenated_length((kinds.INET_SERVICE,)) == 2


def test_a_table_reads_like_nft():
    table = Table("t", (ENTRY, WEB), (NamedSet("ports", (kinds.INET_SERVICE,), frozenset({(80,), (443,)})),))
    assert str(table) == "\n".join(
        [
            "table inet t {",
            "\tset ports {",
            "\t\ttype inet_service",
            "\t\t443,",
            "\t\t80,",
            "\t}",
            "\tchain entry {",
            "\t\ttype nat hook output priority -100; policy accept;",
            '\t\toifname "lo" return',
            "\t\tjump web",
            "\t}",
            "\tchain web {",
            "\t\ttcp dport 80 redirect to :8080",
            "\t}",
            "}",
        ]
    )


def test_what_is_led_to_is_made_first():
    vips = NamedMap("vips", (kinds.INET_SERVICE,), elements={(80,): Goto("web")})
    made = [(message.verb, message.noun) for message in create_table(Table("t", (ENTRY, WEB), (vips,)))]
    assert made == [
        ("new", "table"),
        ("new", "chain"),
        ("new", "chain"),
        ("new", "set"),
        ("new", "elements"),
        ("new", "rule"),
        ("new", "rule"),
        ("new", "rule"),
    ]


def test_replacing_begins_by_making_sure_there_is_something_to_remove():
    made = [(message.verb, message.noun) for message in replace_table(Table("t"))]
    assert made == [("new", "table"), ("delete", "table"), ("new", "table")]


def test_only_base_chains_have_a_hook():
    assert [name for name, _ in new_chain("t", WEB).attributes] == ["NFTA_CHAIN_TABLE", "NFTA_CHAIN_NAME"]
    assert dict(new_chain("t", ENTRY).attributes)["NFTA_CHAIN_HOOK"] == {
        "attrs": [("NFTA_HOOK_HOOKNUM", 3), ("NFTA_HOOK_PRIORITY", -100)]
    }


def test_a_map_says_what_it_holds():
    verdicts = dict(new_set("t", NamedMap("vips", (kinds.INET_SERVICE,))).attributes)
    assert verdicts["NFTA_SET_DATA_TYPE"] == 0xFFFFFF00
    values = dict(new_set("t", NamedMap("m", (kinds.INTEGER,), (kinds.IPV4_ADDR, kinds.INET_SERVICE))).attributes)
    assert (values["NFTA_SET_DATA_LEN"], values["NFTA_SET_KEY_LEN"]) == (8, 4)


@pytest.mark.parametrize("count", [0, 1, 500, 501])
def test_many_elements_travel_in_several_messages(count):
    ports = frozenset((number,) for number in range(count))
    messages = new_elements("t", NamedSet("ports", (kinds.INET_SERVICE,), ports))
    assert len(messages) == -(-count // 500)
    assert len(delete_elements("t", "ports", (kinds.INET_SERVICE,), ports)) == -(-count // 500)


def test_flushing_a_chain_deletes_its_rules():
    message = flush_chain("t", "web")
    assert (message.verb, message.noun) == ("delete", "rule")
