from datetime import UTC, datetime, timedelta

import pytest

from mizzen.agent.rotation import renew_at

START = datetime(2026, 11, 23, tzinfo=UTC)
END = START + timedelta(hours=100)


@pytest.mark.parametrize(("jitter", "hours"), [(0, 50), (1, 51), (-1, 49), (0.5, 50.5)])
def test_a_certificate_is_renewed_at_half_of_its_life_more_or_less(jitter, hours):
    assert renew_at(START, END, jitter) == START + timedelta(hours=hours)


@pytest.mark.parametrize("jitter", [-1.1, 2])
def test_jitter_has_limits(jitter):
    with pytest.raises(ValueError, match="jitter"):
        renew_at(START, END, jitter)
