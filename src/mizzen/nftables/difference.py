"""What leads from one state of a table to another, as one batch: nothing that stays is touched. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from mizzen.nftables import messages
from mizzen.nftables.messages import Message
from mizzen.nftables.ruleset import Chain, NamedMap, NamedSet, Table, Values

Named: TypeAlias = NamedSet | NamedMap


def changes(old: Table, new: Table) -> list[Message]:
    """Both are the same table. References go before what they refer to, and come after it."""
    chains, wanted = {chain.name: chain for chain in old.chains}, {chain.name: chain for chain in new.chains}
    sets, wanted_sets = {named.name: named for named in old.sets}, {named.name: named for named in new.sets}
    stays = {name for name, named in sets.items() if name in wanted_sets and _shape(named) == _shape(wanted_sets[name])}
    renewed = {name for name, chain in chains.items() if wanted.get(name) != chain}
    added = (_added(old.name, each, sets.get(name), name in stays) for name, each in wanted_sets.items())
    return [
        *(each for name in sets if name in stays for each in _withdrawn(old.name, sets[name], wanted_sets[name])),
        *(messages.flush_chain(old.name, name) for name in renewed),
        *(messages.delete_set(old.name, name) for name in sets if name not in stays),
        *(messages.delete_chain(old.name, name) for name in chains if name not in wanted),
        *(messages.new_chain(old.name, chain) for name, chain in wanted.items() if name not in chains),
        *(messages.new_set(old.name, named) for name, named in wanted_sets.items() if name not in stays),
        *(message for gained in added for message in gained),
        *(each for chain in new.chains if chains.get(chain.name) != chain for each in _rules(old.name, chain)),
    ]


def _shape(named: Named) -> Named:
    """What cannot be changed in place: all but the elements."""
    return replace(named, elements={}) if isinstance(named, NamedMap) else replace(named, elements=frozenset())


def _withdrawn(table: str, old: Named, new: Named) -> list[Message]:
    return messages.delete_elements(table, old.name, old.key, _lost(old, new))


def _lost(old: Named, new: Named) -> Iterator[Values]:
    if isinstance(old, NamedMap) and isinstance(new, NamedMap):
        return (key for key, value in old.elements.items() if new.elements.get(key) != value)
    return iter(frozenset(old.elements) - frozenset(new.elements))


def _added(table: str, named: Named, old: Named | None, stays: bool) -> list[Message]:
    if old is None or not stays:
        return messages.new_elements(table, named)
    if isinstance(named, NamedMap) and isinstance(old, NamedMap):
        gained = {key: value for key, value in named.elements.items() if old.elements.get(key) != value}
        return messages.new_elements(table, replace(named, elements=gained))
    assert isinstance(named, NamedSet)
    return messages.new_elements(table, replace(named, elements=named.elements - frozenset(old.elements)))


def _rules(table: str, chain: Chain) -> list[Message]:
    return [messages.new_rule(table, chain.name, rule) for rule in chain.rules]
