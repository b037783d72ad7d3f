"""What a table is made of, as values: chains of rules, sets and maps. `str()` reads like `nft list table`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mizzen.nftables import expressions as x
from mizzen.nftables.families import Family
from mizzen.nftables.fields import Field, Statement
from mizzen.nftables.kinds import INET_SERVICE, INTEGER, Kind, words

Values: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    statements: tuple[Statement, ...]

    def __init__(self, *statements: Statement) -> None:
        object.__setattr__(self, "statements", statements)

    def __str__(self) -> str:
        return " ".join(str(statement) for statement in self.statements)

    @property
    def expressions(self) -> tuple[x.Expression, ...]:
        return tuple(expression for statement in self.statements for expression in statement.expressions)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the kernel enters a chain. Smaller priorities come first; -100 is where destinations are rewritten."""

    kind: Literal["nat", "filter"]
    at: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int

    @property
    def number(self) -> int:
        return ("prerouting", "input", "forward", "output", "postrouting").index(self.at)

    def __str__(self) -> str:
        return f"type {self.kind} hook {self.at} priority {self.priority}; policy accept;"


@dataclass(frozen=True, slots=True)
class Chain:
    """With a hook the kernel enters it, without one only a jump does."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None

    def __str__(self) -> str:
        lines = [str(self.hook)] if self.hook else []
        return _block(f"chain {self.name}", [*lines, *(str(rule) for rule in self.rules)])


@dataclass(frozen=True, slots=True)
class Goto:
    """What a verdict map holds: go on in that chain."""

    chain: str

    def __str__(self) -> str:
        return f"goto {self.chain}"


@dataclass(frozen=True, slots=True)
class Jump:
    """What a verdict map holds: go through that chain, then on with the next rule."""

    chain: str

    def __str__(self) -> str:
        return f"jump {self.chain}"


Verdict: TypeAlias = Goto | Jump


@dataclass(frozen=True, slots=True)
class NamedSet:
    """Values, or concatenations of values, to be looked up at once. `elements` are keys."""

    name: str
    key: tuple[Kind, ...]
    elements: frozenset[Values] = frozenset()

    def __str__(self) -> str:
        return _block(f"set {self.name}", _listed(self.key, (_joined(element) for element in self.elements)))


@dataclass(frozen=True, slots=True)
class NamedMap:
    """Keys to values. Without `value` it is a verdict map, whose values are `Goto` or `Jump`.

    What a `dynamic` map holds is written by rules, each element for its own time.
    """

    name: str
    key: tuple[Kind, ...]
    value: tuple[Kind, ...] = ()
    elements: Mapping[Values, Values | Verdict] = field(default_factory=dict)
    dynamic: bool = False

    def __str__(self) -> str:
        shown = (f"{_joined(key)} : {_joined(value)}" for key, value in self.elements.items())
        flags = ["flags dynamic,timeout"] if self.dynamic else []
        return _block(f"map {self.name}", [*flags, *_listed(self.key, shown)])


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the `inet` family: IPv4 and IPv6 in one."""

    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet | NamedMap, ...] = ()

    def __str__(self) -> str:
        parts = [*(str(named) for named in self.sets), *(str(chain) for chain in self.chains)]
        return _block(f"table inet {self.name}", "\n".join(parts).splitlines())


def accept() -> Statement:
    return Statement("accept", (x.verdict("accept"),))


def drop() -> Statement:
    return Statement("drop", (x.verdict("drop"),))


def leave() -> Statement:
    """`return`: back to the calling chain, or to the policy."""
    return Statement("return", (x.verdict("return"),))


def jump(chain: str) -> Statement:
    return Statement(f"jump {chain}", (x.verdict("jump", chain),))


def redirect(port: int) -> Statement:
    """To this port of this machine."""
    return Statement(f"redirect to :{port}", (x.immediate(INET_SERVICE.packed(port)), x.redirect()))


def masquerade() -> Statement:
    return Statement("masquerade", (x.MASQUERADE,))


def counter() -> Statement:
    return Statement("counter", (x.COUNTER,))


def set_mark(mark: int) -> Statement:
    key = 3  # NFT_META_MARK
    return Statement(f"meta mark set {mark:#x}", (x.immediate(INTEGER.packed(mark)), x.set_meta(key)))


def reject_with_reset() -> Statement:
    return Statement("reject with tcp reset", (x.REJECT_WITH_RESET,))


def reject_as_unreachable() -> Statement:
    return Statement("reject", (x.REJECT_AS_UNREACHABLE,))


def in_set(fields: tuple[Field, ...], name: str) -> Statement:
    source, loaded = _load(fields)
    return Statement(f"{_names(fields)} @{name}", (*loaded, x.lookup(name, source)))


def verdict_map(fields: tuple[Field, ...], name: str) -> Statement:
    """Goes where the map says for these fields; goes on with the next rule when it holds nothing."""
    source, loaded = _load(fields)
    return Statement(f"{_names(fields)} vmap @{name}", (*loaded, x.lookup(name, source, x.VERDICT)))


_ADDRESS = x.FIRST_WORD
"""Where the statements below keep an endpoint's address; behind it its port, and then who calls it."""


def random_endpoint(count: int, name: str) -> Statement:
    """Chooses one of `count` that the map holds for 0 … count - 1, each as address and port."""
    chosen = (x.random_number(count), x.lookup(name, x.VALUE, _ADDRESS))
    return Statement(f"endpoint set numgen random mod {count} map @{name}", chosen)


def remembered_endpoint(family: Family, clients: str, known: str) -> Statement:
    """The one that the map holds for this client, while the set knows it; else the rule ends here."""
    caller, load = _caller(family)
    found = (load, x.lookup(clients, caller, _ADDRESS), x.lookup(known, _ADDRESS))
    return Statement(f"endpoint set {family.source.name} map @{clients} endpoint @{known}", found)


def keep_endpoint(family: Family, clients: str, seconds: int) -> Statement:
    """The map goes on holding the endpoint for this client, for so long."""
    caller, load = _caller(family)
    return Statement(
        f"update @{clients} {{ {family.source.name} timeout {seconds}s : endpoint }}",
        (load, x.remember(clients, caller, _ADDRESS, seconds)),
    )


def forget_endpoint(family: Family, clients: str) -> Statement:
    """A map keeps what it holds: another endpoint for this client can only be remembered after this."""
    caller, load = _caller(family)
    return Statement(f"delete @{clients} {{ {family.source.name} }}", (load, x.forget(clients, caller, _ADDRESS)))


def to_endpoint(family: Family) -> Statement:
    """Rewrites the destination to the endpoint."""
    return Statement(f"dnat {family} to endpoint", (x.destination_nat(family.number, _ADDRESS, _port(family)),))


def _port(family: Family) -> int:
    return _ADDRESS + words(family.address)


def _caller(family: Family) -> tuple[int, x.Expression]:
    """The register for the caller's address, and what loads it."""
    register = _port(family) + words(INET_SERVICE)
    return register, family.source.load(register)


def _load(fields: tuple[Field, ...]) -> tuple[int, tuple[x.Expression, ...]]:
    """Guards first: they use the registers that the concatenation then fills."""
    guards = tuple(expression for one in fields for expression in one.guard)
    if len(fields) == 1:
        return x.VALUE, (*guards, fields[0].load(x.VALUE))
    loads = []
    register = x.FIRST_WORD
    for one in fields:
        loads.append(one.load(register))
        register += words(one.kind)
    return x.FIRST_WORD, (*guards, *loads)


def _names(fields: tuple[Field, ...]) -> str:
    return " . ".join(one.name for one in fields)


def _joined(values: Values | Verdict) -> str:
    return str(values) if isinstance(values, Goto | Jump) else " . ".join(str(value) for value in values)


def _listed(key: tuple[Kind, ...], elements: Any) -> list[str]:
    return [f"type {' . '.join(kind.name for kind in key)}", *(f"{element}," for element in sorted(elements))]


def _block(head: str, lines: list[str]) -> str:
    return "\n".join([f"{head} {{", *(f"\t{line}" for line in lines), "}"])
