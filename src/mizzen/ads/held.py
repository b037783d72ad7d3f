"""What a proxy holds, written down as its difference from what it is to hold.

Of thousands of proxies with thousands of resources almost all hold exactly their target, which they share with others:
then there is nothing to write down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


class Held:
    """Versions by name; None is "not held". Every question and note says what the target is: a version, or None."""

    __slots__ = ("_differs",)

    def __init__(self) -> None:
        self._differs: dict[str, str | None] = {}

    def version(self, name: str, target: str | None) -> str | None:
        return self._differs.get(name, target)

    def note(self, name: str, version: str | None, target: str | None) -> None:
        """The proxy holds this version now."""
        if version != target:
            self._differs[name] = version
        elif name in self._differs:
            self.forget(name)

    def note_all(self, versions: Mapping[str, str | None], targets: Mapping[str, str]) -> None:
        """The proxy holds these versions now."""
        differs = {name: version for name, version in versions.items() if targets.get(name) != version}
        if self._differs:
            differs |= {name: version for name, version in self._differs.items() if name not in versions}
        self._differs = differs

    def rebase(self, name: str, before: str | None, after: str | None) -> None:
        """The target moved; what the proxy holds did not."""
        self.note(name, self._differs.get(name, before), after)

    @property
    def is_target(self) -> bool:
        return not self._differs

    def stay(self, before: Mapping[str, str | None]) -> None:
        """The proxy held its target, which has moved and was this before."""
        self._differs = dict(before)

    def become_target(self) -> None:
        """The proxy holds all that it is to hold."""
        self._differs = {}

    def forget(self, name: str) -> None:
        """The proxy no longer wants it, nor does the target count for it."""
        self._differs.pop(name, None)
        if not self._differs:
            self._differs = {}  # a dict that was large once stays large

    def forget_all(self, names: Iterable[str]) -> None:
        for name in names:
            self.forget(name)

    def differing(self) -> Iterator[tuple[str, str | None]]:
        """Names and versions where target and proxy differ."""
        yield from self._differs.items()
