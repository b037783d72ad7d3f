"""Authorities on their way through Secrets."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mizzen.ca.authority import new_root
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane import authority_secrets as stored

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD, NEW = (new_root("cluster.local", NOW, serial) for serial in (1, 2))


def secret(data, annotations=None):
    made = stored.secret("a", "istio-system", "a/type", data)
    made["metadata"]["annotations"] = annotations or {}
    return made


def same(one, other):
    """Keys have no equality of their own."""
    return repr(replace(one, signing=None, successor=None)) == repr(replace(other, signing=None, successor=None)) and [
        (root.to_pem(), root.chain, root.trusted) if root else None for root in (one.signing, one.successor)
    ] == [(root.to_pem(), root.chain, root.trusted) if root else None for root in (other.signing, other.successor)]


@pytest.mark.parametrize("phase", ["steady", "spreading", "retiring"])
def test_the_record_says_the_same_after_its_way_through_a_secret(phase):
    succession = Succession(OLD, NOW)
    if phase != "steady":
        succession = succession.outlasting(NOW + timedelta(days=40)).heard(NEW, NOW)
    if phase == "retiring":
        succession = succession.moved(Standing(trusting=True), NOW)
    again = stored.read_in_force(secret(stored.in_force_data(succession)))
    assert again.phase == phase and same(again, succession)
    assert again.trusted == succession.trusted


def test_a_record_that_a_hand_has_written_is_told():
    with pytest.raises(ValueError, match="istio-ca-in-force cannot be read"):
        stored.read_in_force(secret({"state.json": b"{}"}))


def test_a_new_root_is_made_when_it_is_asked_for_or_time():
    data = stored.self_signed_data(OLD)
    assert not stored.wants_new_root(secret(data), OLD, NOW)
    assert stored.wants_new_root(secret(data, {stored.ROTATE: "please"}), OLD, NOW)
    assert stored.wants_new_root(secret(data), OLD, NOW + timedelta(days=3650 * 0.81))


def test_what_is_plugged_in_must_be_whole_and_in_its_time():
    certificate, key = OLD.to_pem()
    whole = {"ca-cert.pem": certificate, "ca-key.pem": key, "cert-chain.pem": certificate, "root-cert.pem": certificate}
    assert stored.plugged_in(secret(whole), NOW).certificate == OLD.certificate
    with pytest.raises(ValueError, match="expired"):
        stored.plugged_in(secret(whole), NOW + timedelta(days=4000))
    with pytest.raises(ValueError, match=r"has no 'ca-key\.pem'"):
        stored.plugged_in(secret({"ca-cert.pem": certificate}), NOW)
    with pytest.raises(ValueError, match="not the key"):
        stored.plugged_in(secret({**whole, "ca-key.pem": NEW.to_pem()[1]}), NOW)
