"""A new authority is trusted before it signs, and the old one for as long as something of it may live."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mizzen.ca.authority import Root, new_root
from mizzen.ca.succession import SPREAD_WITHIN, Standing, Succession

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SOON, DAY = timedelta(seconds=10), timedelta(days=1)
OLD, NEW, THIRD = (new_root("cluster.local", NOW, serial) for serial in (1, 2, 3))
NOBODY, ALL_TRUST, ALL_RENEWED = Standing(), Standing(trusting=True), Standing(trusting=True, renewed=True)


@pytest.fixture
def steady():
    return Succession(OLD, NOW)


def certificates(*roots):
    return tuple(root.certificate for root in roots)


def trusting_also(root, *others):
    return Root(root.certificate, root.key, "", certificates(root, *others))


def test_nothing_happens_while_nothing_changes(steady):
    assert steady.heard(OLD, NOW) is steady
    assert steady.moved(ALL_RENEWED, NOW + DAY) is steady


def test_a_new_root_is_trusted_before_it_signs(steady):
    spreading = steady.heard(NEW, NOW)
    assert (spreading.phase, spreading.signing, spreading.trusted) == ("spreading", OLD, certificates(OLD, NEW))
    assert spreading.moved(NOBODY, NOW + SOON) is spreading
    assert spreading.heard(NEW, NOW + SOON) is spreading, "the same wish twice is one"


def test_when_all_trust_it_it_signs_and_comes_first(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW + SOON)
    assert (retiring.phase, retiring.signing, retiring.trusted) == ("retiring", NEW, certificates(NEW, OLD))
    assert retiring.moved(ALL_TRUST, NOW + 2 * SOON) is retiring


def test_who_cannot_say_that_it_trusts_is_not_waited_for_for_ever(steady):
    spreading = steady.heard(NEW, NOW)
    assert spreading.moved(NOBODY, NOW + SPREAD_WITHIN).signing == NEW


def test_the_old_root_goes_when_nobody_holds_anything_of_it(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW)
    done = retiring.moved(ALL_RENEWED, NOW + SOON)
    assert (done.phase, done.trusted) == ("steady", certificates(NEW))


def test_the_old_root_goes_when_its_last_certificate_has_ended(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW)
    assert retiring.moved(NOBODY, NOW + DAY - SOON) is retiring
    assert retiring.moved(NOBODY, NOW + DAY).phase == "steady"


def test_certificates_that_nobody_sees_renewed_keep_their_root(steady):
    retiring = steady.outlasting(NOW + 30 * DAY).heard(NEW, NOW).moved(ALL_TRUST, NOW)
    assert retiring.moved(ALL_RENEWED, NOW + 29 * DAY) is retiring
    assert retiring.moved(ALL_RENEWED, NOW + 30 * DAY).phase == "steady"
    assert retiring.outlasting(NOW) is retiring


def test_a_change_of_mind_ends_what_had_only_begun(steady):
    assert steady.heard(NEW, NOW).heard(OLD, NOW + SOON).trusted == certificates(OLD)


def test_a_third_root_takes_the_successors_place(steady):
    spreading = steady.heard(NEW, NOW).heard(THIRD, NOW + SOON)
    assert (spreading.trusted, spreading.since) == (certificates(OLD, THIRD), NOW + SOON)


def test_a_second_succession_forgets_nothing_of_the_first(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW).heard(THIRD, NOW + SOON)
    assert (retiring.phase, retiring.trusted) == ("spreading", certificates(NEW, THIRD, OLD))
    last = retiring.moved(ALL_TRUST, NOW + SOON)
    assert last.trusted == certificates(THIRD, OLD, NEW)
    assert last.moved(ALL_RENEWED, NOW + 2 * SOON).trusted == certificates(THIRD)


def test_and_back_again(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW)
    back = retiring.heard(OLD, NOW + SOON)
    assert (back.signing, back.trusted) == (OLD, certificates(OLD, NEW)), "it is trusted still, and signs at once"


def test_the_users_own_order_istios_three_steps(steady):
    """Both roots in root-cert.pem, then the other authority, then its root alone."""
    both = steady.heard(trusting_also(OLD, NEW), NOW)
    assert (both.phase, both.trusted) == ("steady", certificates(OLD, NEW))
    switched = both.heard(trusting_also(NEW, OLD), NOW + SOON)
    assert (switched.signing.certificate, switched.phase) == (NEW.certificate, "retiring")
    alone = switched.heard(NEW, NOW + 2 * SOON)
    assert alone.trusted == certificates(NEW, OLD), "certificates of the old one live"
    assert alone.moved(ALL_RENEWED, NOW + DAY).trusted == certificates(NEW)


def test_roots_of_other_meshes_come_and_go_at_once(steady):
    with_guest = steady.heard(trusting_also(OLD, THIRD), NOW)
    assert with_guest.trusted == certificates(OLD, THIRD)
    assert with_guest.heard(OLD, NOW + SOON).trusted == certificates(OLD)


def test_each_root_is_trusted_once(steady):
    retiring = steady.heard(NEW, NOW).moved(ALL_TRUST, NOW)
    assert len(replace(retiring, successor=OLD).trusted) == 2
