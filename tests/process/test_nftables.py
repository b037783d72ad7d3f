"""Batches against the real kernel: all or nothing, and a refusal that says which change it was."""

import errno

import pytest

from mizzen.nftables import kinds
from mizzen.nftables.fields import MARK, TCP_DPORT
from mizzen.nftables.messages import create_table, delete_table, new_elements, new_table, replace_table
from mizzen.nftables.netlink import Refused, commit, table_names
from mizzen.nftables.ruleset import (
    Chain,
    Goto,
    Hook,
    NamedMap,
    NamedSet,
    Rule,
    Table,
    accept,
    counter,
    jump,
    set_mark,
)

pytestmark = [pytest.mark.process, pytest.mark.root]


def test_tables_come_and_go(private_network):
    commit([new_table("one"), new_table("two")])
    assert sorted(table_names()) == ["one", "two"]
    commit([delete_table("one")])
    assert table_names() == ["two"]


def test_a_refused_change_takes_the_whole_batch_with_it_and_is_named(private_network):
    with pytest.raises(Refused, match="delete table nowhere") as caught:
        commit([new_table("one"), delete_table("nowhere"), new_table("two")])
    assert caught.value.errno == errno.ENOENT
    assert table_names() == []


def test_the_last_change_is_heard_too(private_network):
    with pytest.raises(Refused, match="delete table nowhere"):
        commit([new_table("one"), delete_table("nowhere")])


def test_a_jump_to_nowhere_is_refused(private_network):
    with pytest.raises(Refused, match="new rule t entry"):
        commit(create_table(Table("t", (Chain("entry", (Rule(jump("nowhere")),)),))))


def test_every_statement_is_understood_by_the_kernel(private_network):
    rule = Rule(TCP_DPORT.is_(80), MARK.is_not(1), counter(), set_mark(7), accept())
    commit(create_table(Table("t", (Chain("entry", (rule,), Hook("filter", "forward", 0)),))))
    assert table_names() == ["t"]


def test_large_batches_fit(private_network):
    ports = NamedSet("ports", (kinds.INET_SERVICE,), frozenset((number,) for number in range(5_000)))
    commit(create_table(Table("t", (), (ports,))))
    with pytest.raises(Refused):
        commit([*new_elements("t", NamedMap("ports", (kinds.INET_SERVICE,), elements={(1,): Goto("x")}))])


def test_replacing_is_the_same_the_first_and_the_second_time(private_network):
    table = Table("t", (Chain("entry", (Rule(accept()),), Hook("nat", "prerouting", -100)),))
    commit(replace_table(table))
    commit(replace_table(table))
    assert table_names() == ["t"]
