"""What workloads hold, as replicas note it for each other."""

from datetime import UTC, datetime

import pytest

from mizzen.ca.authority import fingerprint, new_root
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane.ledger import SETTLED_AFTER, SHORT, Holding, standing

NOW = datetime.fromtimestamp(50, UTC)
OLD, NEW = (new_root("cluster.local", NOW, serial) for serial in (1, 2))
WEB, BANK = ("shop", "web-1"), ("shop", "bank-1")


def holding(signer, *trusted, issued=60.0):
    trusts = frozenset(fingerprint(root.certificate)[:SHORT] for root in trusted)
    return Holding(signer.key_id[:SHORT], 86400, issued, trusts)


@pytest.mark.parametrize("held", [holding(OLD), holding(OLD, OLD, NEW, issued=12.5)])
def test_an_entry_reads_as_it_was_written(held):
    assert Holding.read(str(held)) == held


@pytest.mark.parametrize("text", ["", "x", "a b c", "a 1 2 x y"])
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
