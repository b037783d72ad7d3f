"""What is shown of the authority."""

import json
from datetime import UTC, datetime

from mizzen.ca.authority import KeyKind, fingerprint, new_root
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane.authority_page import page
from mizzen.controlplane.ledger import SHORT, Holding
from mizzen.explain.authority import state

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD = new_root("cluster.local", NOW, 1)
NEW = new_root("cluster.local", NOW, 2, kind=KeyKind(rsa_bits=2048))
WEB, BANK = ("shop", "web-1"), ("shop", "bank-1")


def holding(root, *trusts, seconds=0):
    """By a certificate that came so many seconds after NOW."""
    fingerprints = frozenset(fingerprint(one.certificate)[:SHORT] for one in trusts)
    now = NOW.timestamp()
    return Holding(root.key_id[:SHORT], int(now) + 86400, now + seconds, now + seconds, fingerprints)


def shown(succession, holdings):
    answer = page(succession, holdings, [WEB, BANK], NOW.timestamp() + 30)
    assert "PRIVATE" not in json.dumps(answer)
    return state({"istiod": "istiod-1", "source": "istio-ca-secret", "problem": "", **answer})


def roles(found):
    return [(one.role, one.fingerprint, one.workloads) for one in found.roots]


def test_a_rotation_from_beginning_to_end():
    old, new = fingerprint(OLD.certificate), fingerprint(NEW.certificate)
    steady = Succession(OLD, NOW)
    holdings = {WEB: holding(OLD, OLD), BANK: holding(OLD, OLD), ("shop", "gone"): holding(OLD)}
    assert roles(shown(steady, holdings)) == [("signs", old, 2)]

    spreading = steady.heard(NEW, NOW)
    found = shown(spreading, holdings | {WEB: holding(OLD, OLD, NEW, seconds=5)})
    assert roles(found) == [("signs", old, 2), ("next", new, 0)]
    assert (found.phase, found.waits_for, found.waits_for_pods) == ("spreading", 1, ("bank-1.shop",))

    retiring = spreading.moved(Standing(trusting=True), NOW)
    found = shown(retiring, holdings | {BANK: holding(NEW, OLD, NEW, seconds=5)})
    assert roles(found) == [("signs", new, 1), ("retired", old, 1)]
    assert found.waits_for_pods == ("web-1.shop",)
    assert found.roots[1].trusted_until == "2026-11-24T12:00:00+00:00"
    assert [one.key for one in found.roots] == ["RSA 2048", "EC secp256r1"]

    done = retiring.moved(Standing(renewed=True), NOW)
    assert (shown(done, {}).phase, roles(shown(done, {}))) == ("steady", [("signs", new, 0)])
