"""What workloads hold, as replicas note it for each other."""

from datetime import UTC, datetime, timedelta

import pytest

from mizzen.ca.authority import fingerprint, new_root
from mizzen.ca.service import Issued
from mizzen.ca.spiffe import Caller, Identity
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane.ledger import SETTLED_AFTER, SHORT, Holding, standing

NOW = datetime.fromtimestamp(50, UTC)
OLD, NEW = (new_root("cluster.local", NOW, serial) for serial in (1, 2))
WEB, BANK = ("shop", "web-1"), ("shop", "bank-1")


def holding(signer, *trusted, issued=60.0):
    trusts = frozenset(fingerprint(root.certificate)[:SHORT] for root in trusted)
    return Holding(signer.key_id[:SHORT], 86400, issued, issued, trusts)


@pytest.mark.parametrize("held", [holding(OLD), holding(OLD, OLD, NEW, issued=12.5)])
def test_an_entry_reads_as_it_was_written(held):
    assert Holding.read(str(held)) == held


@pytest.mark.parametrize("text", ["", "x", "a b c", "a 1 2 3", "a 1 2 3 x y"])
def test_what_is_no_entry_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        Holding.read(text)


SPREADING = Succession(OLD, NOW).heard(NEW, NOW)
RETIRING = SPREADING.moved(Standing(trusting=True), NOW)


@pytest.mark.parametrize(
    ("bank", "trusting"),
    [
        (None, False),
        (holding(OLD, OLD), False),
        (holding(OLD, OLD, NEW), True),
        (holding(OLD, OLD, NEW, issued=100.0), False),
        (holding(OLD, OLD, NEW, issued=40.0), False),
        (holding(OLD), False),
    ],
    ids=["unknown", "trusts the old one", "trusts both", "only just", "long ago", "says nothing"],
)
def test_all_must_trust_the_successor(bank, trusting):
    holdings = {WEB: holding(OLD, OLD, NEW)} | ({BANK: bank} if bank else {})
    assert standing(holdings, [WEB, BANK], SPREADING, 100.0).trusting is trusting


@pytest.mark.parametrize(("bank", "renewed"), [(holding(OLD), False), (holding(NEW), True)])
def test_all_must_hold_a_certificate_of_who_signs(bank, renewed):
    assert standing({WEB: holding(NEW), BANK: bank}, [WEB, BANK], RETIRING, 60 + SETTLED_AFTER).renewed is renewed


def test_pods_that_are_gone_do_not_count():
    assert standing({BANK: holding(OLD)}, [], RETIRING, 100.0) == Standing(trusting=True, renewed=True)


def issued(signer, *trusted):
    trusts = frozenset(fingerprint(root.certificate) for root in trusted)
    return Issued(Caller(Identity("cluster.local", "shop", "web")), signer.key_id, NOW, timedelta(seconds=2), trusts)


def test_certificates_of_a_seconds_life_settle_too():
    """What counts is since when a Pod has had this authority and this trust, not when it was given the newest."""
    first = Holding.of(issued(OLD, OLD, NEW), 60.0)
    newest = Holding.of(issued(OLD, OLD, NEW), 64.0, first)
    assert (newest.issued, newest.since) == (64.0, 60.0)
    assert standing({WEB: newest}, [WEB], SPREADING, 64.5).trusting
    for other in (issued(NEW, OLD, NEW), issued(OLD, OLD)):
        assert Holding.of(other, 65.0, newest).since == 65.0


def test_what_a_pod_said_in_an_earlier_phase_counts_when_it_says_so_again():
    before = Holding.of(issued(OLD, OLD, NEW), 40.0)
    assert not standing({WEB: before}, [WEB], SPREADING, 60.0).trusting
    assert standing({WEB: Holding.of(issued(OLD, OLD, NEW), 59.0, before)}, [WEB], SPREADING, 60.0).trusting
