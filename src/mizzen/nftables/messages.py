"""Changes to nftables as netlink messages, not yet encoded. A list of them is committed as one: all or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mizzen.nftables import expressions as x
from mizzen.nftables.kinds import Kind, concatenated, concatenated_length, concatenated_number
from mizzen.nftables.ruleset import Chain, Goto, Jump, NamedMap, NamedSet, Rule, Table, Values, Verdict

_VERDICT_TYPE = 0xFFFFFF00
_ELEMENTS_PER_MESSAGE = 500
"""A netlink attribute holds at most 64 KiB."""


@dataclass(frozen=True, slots=True)
class Message:
    """`noun` and `verb` name the message type; attributes are in pyroute2's form."""

    noun: Literal["table", "chain", "rule", "set", "elements"]
    verb: Literal["new", "delete"]
    attributes: tuple[tuple[str, Any], ...]


def replace_table(table: Table) -> list[Message]:
    """The table as it is described and nothing else, whatever it held before: without a moment in between."""
    return [new_table(table.name), delete_table(table.name), *create_table(table)]


def create_table(table: Table) -> list[Message]:
    """Chains come before the rules and map elements that lead to them."""
    return [
        new_table(table.name),
        *(new_chain(table.name, chain) for chain in table.chains),
        *(new_set(table.name, named) for named in table.sets),
        *(message for named in table.sets for message in new_elements(table.name, named)),
        *(new_rule(table.name, chain.name, rule) for chain in table.chains for rule in chain.rules),
    ]


def new_table(name: str) -> Message:
    return Message("table", "new", (("NFTA_TABLE_NAME", name),))


def delete_table(name: str) -> Message:
    return Message("table", "delete", (("NFTA_TABLE_NAME", name),))


def new_chain(table: str, chain: Chain) -> Message:
    """The chain without its rules."""
    named = (("NFTA_CHAIN_TABLE", table), ("NFTA_CHAIN_NAME", chain.name))
    if not chain.hook:
        return Message("chain", "new", named)
    hook = {"attrs": [("NFTA_HOOK_HOOKNUM", chain.hook.number), ("NFTA_HOOK_PRIORITY", chain.hook.priority)]}
    accept = ("NFTA_CHAIN_POLICY", x.CODES["accept"])
    return Message("chain", "new", (*named, ("NFTA_CHAIN_HOOK", hook), accept, ("NFTA_CHAIN_TYPE", chain.hook.kind)))


def flush_chain(table: str, name: str) -> Message:
    """Removes the rules and keeps the chain."""
    return Message("rule", "delete", (("NFTA_RULE_TABLE", table), ("NFTA_RULE_CHAIN", name)))


def delete_chain(table: str, name: str) -> Message:
    """The chain must be empty, and nothing may lead to it."""
    return Message("chain", "delete", (("NFTA_CHAIN_TABLE", table), ("NFTA_CHAIN_NAME", name)))


def new_rule(table: str, chain: str, rule: Rule) -> Message:
    code = [expression.nla() for expression in rule.expressions]
    return Message(
        "rule", "new", (("NFTA_RULE_TABLE", table), ("NFTA_RULE_CHAIN", chain), ("NFTA_RULE_EXPRESSIONS", code))
    )


def new_set(table: str, named: NamedSet | NamedMap) -> Message:
    """The set or map without its elements."""
    return Message(
        "set",
        "new",
        (
            ("NFTA_SET_TABLE", table),
            ("NFTA_SET_NAME", named.name),
            ("NFTA_SET_FLAGS", _flags(named)),
            ("NFTA_SET_KEY_TYPE", concatenated_number(named.key)),
            ("NFTA_SET_KEY_LEN", concatenated_length(named.key)),
            *(_data_type(named.value) if isinstance(named, NamedMap) else ()),
            ("NFTA_SET_ID", 1),
        ),
    )


def _flags(named: NamedSet | NamedMap) -> tuple[str, ...]:
    if isinstance(named, NamedSet):
        return ()
    return ("NFT_SET_MAP", "NFT_SET_EVAL", "NFT_SET_TIMEOUT") if named.dynamic else ("NFT_SET_MAP",)


def delete_set(table: str, name: str) -> Message:
    return Message("set", "delete", (("NFTA_SET_TABLE", table), ("NFTA_SET_NAME", name)))


def new_elements(table: str, named: NamedSet | NamedMap) -> list[Message]:
    """Adds what `named` holds to the set or map of that name."""
    if isinstance(named, NamedSet):
        return _element_messages(table, named.name, "new", (_element(named.key, key) for key in named.elements))
    pairs = (_element(named.key, key, _value(named.value, value)) for key, value in named.elements.items())
    return _element_messages(table, named.name, "new", pairs)


def delete_elements(table: str, name: str, key: tuple[Kind, ...], elements: Iterable[Values]) -> list[Message]:
    """They must be there."""
    return _element_messages(table, name, "delete", (_element(key, element) for element in elements))


def _element_messages(
    table: str, name: str, verb: Literal["new", "delete"], elements: Iterable[Mapping[str, Any]]
) -> list[Message]:
    every = list(elements)
    target = (("NFTA_SET_ELEM_LIST_TABLE", table), ("NFTA_SET_ELEM_LIST_SET", name))
    pieces = (every[start : start + _ELEMENTS_PER_MESSAGE] for start in range(0, len(every), _ELEMENTS_PER_MESSAGE))
    return [Message("elements", verb, (*target, ("NFTA_SET_ELEM_LIST_ELEMENTS", piece))) for piece in pieces]


def _element(kinds: tuple[Kind, ...], key: Values, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
    held = [("NFTA_SET_ELEM_DATA", value)] if value else []
    return {"attrs": [("NFTA_SET_ELEM_KEY", x.data(concatenated(kinds, key))), *held]}


def _value(kinds: tuple[Kind, ...], value: Values | Verdict) -> dict[str, Any]:
    if isinstance(value, Goto | Jump):
        return x.verdict_data(x.CODES["goto" if isinstance(value, Goto) else "jump"], value.chain)
    return x.data(concatenated(kinds, value))


def _data_type(kinds: tuple[Kind, ...]) -> tuple[tuple[str, int], ...]:
    if not kinds:
        return (("NFTA_SET_DATA_TYPE", _VERDICT_TYPE),)
    return (
        ("NFTA_SET_DATA_TYPE", concatenated_number(kinds)),
        ("NFTA_SET_DATA_LEN", concatenated_length(kinds)),
    )
