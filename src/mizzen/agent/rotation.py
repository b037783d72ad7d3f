"""When to renew a certificate."""

from __future__ import annotations

from datetime import datetime

RENEW_AFTER = 0.5
"""Istio's SECRET_GRACE_PERIOD_RATIO: renew when this share of the life is over."""
JITTER = 0.01
"""How far the share may move either way, so that Pods of one Deployment do not all ask at once."""


def renew_at(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """The moment to ask for the next certificate. `jitter` is in [-1, 1] and moves it by that much of `JITTER`."""
    if not -1 <= jitter <= 1:
        raise ValueError(f"jitter is within [-1, 1], not {jitter}")
    return not_before + (not_after - not_before) * (RENEW_AFTER + JITTER * jitter)
