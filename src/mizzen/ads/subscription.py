"""One resource type of one delta stream: what the proxy asked for, what it holds, what is under way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mizzen.ads.held import Held
from mizzen.ads.store import Response


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type of one stream, as `proxy-status` shows it."""

    held: int
    in_flight: int
    pending: int
    refused: int


@dataclass(slots=True)
class Subscription:
    """What is known about one resource type of the stream."""

    wildcard: bool = False
    names: frozenset[str] | set[str] = field(default_factory=frozenset)
    """Asked for by name. At rest a frozen set, which proxies that ask for the same share."""
    held: Held = field(default_factory=Held)
    """What the proxy has acknowledged."""
    pending: set[str] = field(default_factory=set)
    """Names to look at again: target and held may differ."""
    asked: set[str] = field(default_factory=set)
    """Names to answer for even if nothing changed, or nothing is there."""
    answering: set[str] = field(default_factory=set)
    """Those among them that what is under way answers."""
    alone: set[str] = field(default_factory=set)
    """Names that were in a refused response which did not say whom it meant; sent one by one."""
    in_flight: dict[str, Response] = field(default_factory=dict)
    completing: Response | None = None
    """What is under way if nothing else differs: once acknowledged, the proxy holds just what it is to hold."""
    first_answer_due: bool = False
    """A wildcard subscription is answered even when there is nothing: the proxy waits for it to start."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    @property
    def idle(self) -> bool:
        return not self.in_flight and not self.pending

    @property
    def under_way(self) -> frozenset[str]:
        """Names of what was sent and not answered, without removals."""
        sent = self.in_flight.values()
        return frozenset(name for one in sent for name, version in one.versions.items() if version)

    def add(self, names: Iterable[str]) -> None:
        """A shared set is copied, a set of our own grows in place."""
        if not isinstance(self.names, set):
            self.names = set(self.names)
        self.names.update(names)

    def forget(self, gone: Iterable[str]) -> None:
        for name in gone:
            self.held.forget(name)
            for names in (self.pending, self.asked, self.alone):
                names.discard(name)
