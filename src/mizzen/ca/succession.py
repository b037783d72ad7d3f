"""How one authority follows another without a request lost: trusted first, then it signs, then the old one is dropped.

    steady ──a new authority──▶ spreading ──all trust it──▶ retiring ──nothing of the old one lives──▶ steady

Pure: every replica of istiod works the same steps out of the same record, and whoever is first writes the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal, TypeAlias

from cryptography import x509

from mizzen.ca.authority import WORKLOAD_VALIDITY, Root, unique

Phase: TypeAlias = Literal["steady", "spreading", "retiring"]

SPREAD_WITHIN = timedelta(minutes=3)
"""Who has not said by then that it trusts the successor cannot say it, or does not run. A kubelet takes up to two
minutes to bring a changed ConfigMap into a Pod."""


@dataclass(frozen=True, slots=True)
class Retired:
    """An authority that signs no more. Its roots are trusted for as long as something that it signed may live."""

    key_id: str
    roots: tuple[x509.Certificate, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the workloads are: whether all trust the successor, and all have a certificate of who signs now."""

    trusting: bool = False
    renewed: bool = False


@dataclass(frozen=True)
class Succession:
    """Who signs, who will, and who did. Times are aware."""

    signing: Root
    since: datetime
    """When the phase began."""
    successor: Root | None = None
    retired: tuple[Retired, ...] = ()
    longest_life: datetime | None = None
    """When the last of those certificates ends whose renewal nobody can see: longer than usual, or not of a Pod."""

    @property
    def phase(self) -> Phase:
        if self.successor is not None:
            return "spreading"
        return "retiring" if self.retired else "steady"

    @cached_property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """Each once. The first are of who signs: so workloads see in the published roots that it is time to renew."""
        coming = self.successor.trusted if self.successor else ()
        going = [root for one in self.retired for root in one.roots]
        return unique([*self.signing.anchors, *self.signing.trusted, *coming, *going])

    def heard(self, wanted: Root, now: datetime) -> Succession:
        """What follows when the Secrets hold this authority.

        One whose roots are trusted already may sign at once; roots that only join are trusted at once. Back to who
        signs ends a succession that had only begun.
        """
        if _same(wanted, self.successor):
            return self
        if wanted.certificate == self.signing.certificate:
            if wanted.trusted == self.signing.trusted and self.successor is None:
                return self
            return replace(self, signing=wanted, successor=None, since=now)
        if self.successor is None and set(wanted.trusted) <= set(self.trusted):
            return self._signed_by(wanted, now)
        return replace(self, successor=wanted, since=now)

    def moved(self, standing: Standing, now: datetime) -> Succession:
        """One step on, if it is time."""
        if self.successor is not None:
            late = now >= self.since + SPREAD_WITHIN
            return self._signed_by(self.successor, now) if standing.trusting or late else self
        kept = tuple(one for one in self.retired if not self._over(one, standing, now))
        return self if kept == self.retired else replace(self, retired=kept, since=now)

    def outlasting(self, until: datetime) -> Succession:
        """A certificate was signed whose renewal nobody can see."""
        return self if self.longest_life and self.longest_life >= until else replace(self, longest_life=until)

    def _over(self, one: Retired, standing: Standing, now: datetime) -> bool:
        unseen_lives = self.longest_life is not None and self.longest_life > now and one.until > now
        return now >= one.until or (standing.renewed and not unseen_lives)

    def _signed_by(self, root: Root, now: datetime) -> Succession:
        until = max(now + WORKLOAD_VALIDITY, self.longest_life or now)
        old = Retired(self.signing.key_id, self.signing.anchors, now, until)
        others = tuple(one for one in self.retired if one.key_id != root.key_id)
        return replace(self, signing=root, since=now, successor=None, retired=(*others, old))


def _same(one: Root, other: Root | None) -> bool:
    return other is not None and (one.certificate, one.trusted) == (other.certificate, other.trusted)
