from mizzen.nftables import kinds
from mizzen.nftables.difference import changes
from mizzen.nftables.ruleset import Chain, Goto, NamedMap, NamedSet, Rule, Table, accept, drop

PORT = (kinds.INET_SERVICE,)
WEB, DNS = Chain("web", (Rule(accept()),)), Chain("dns", (Rule(accept()),))


def led(elements):
    return NamedMap("ports", PORT, elements={(port,): Goto(chain) for port, chain in elements.items()})


def told(old, new):
    return [(each.verb, each.noun) for each in changes(old, new)]


def test_nothing_changes_when_nothing_changed():
    table = Table("t", (WEB, DNS), (led({80: "web"}),))
    assert changes(table, table) == []


def test_references_go_before_chains_and_come_after_them():
    nothing, everything = Table("t", (), (led({}),)), Table("t", (WEB,), (led({80: "web"}),))
    assert told(nothing, everything) == [("new", "chain"), ("new", "elements"), ("new", "rule")]
    assert told(everything, nothing) == [("delete", "elements"), ("delete", "rule"), ("delete", "chain")]


def test_an_element_with_another_value_is_exchanged():
    old, new = (Table("t", (WEB, DNS), (led({80: name, 1: "web"}),)) for name in ("web", "dns"))
    assert told(old, new) == [("delete", "elements"), ("new", "elements")]


def test_a_set_of_another_shape_is_made_anew_after_the_rules_that_refer_to_it_are_gone():
    old = Table("t", (WEB,), (NamedSet("s", PORT, frozenset({(1,)})),))
    new = Table("t", (Chain("web", (Rule(drop()),)),), (NamedSet("s", (kinds.IPV4_ADDR,)),))
    assert told(old, new) == [("delete", "rule"), ("delete", "set"), ("new", "set"), ("new", "rule")]


def test_what_a_dynamic_map_holds_is_left_alone():
    clients = NamedMap("clients", (kinds.IPV4_ADDR,), PORT, dynamic=True)
    assert changes(Table("t", (), (clients,)), Table("t", (WEB,), (clients,)))[0].noun == "chain"
