"""When to renew a certificate."""

from __future__ import annotations

from datetime import datetime

RENEW_AFTER = 0.5
"""Istio's SECRET_GRACE_PERIOD_RATIO: renew when this share of the life is over."""
JITTER = 0.01
"""How far the share may move either way, so that Pods of one Deployment do not all ask at once."""


def renew_at(received: datetime, not_after: datetime, jitter: float) -> datetime:
    """The moment to ask for the next certificate. `jitter` is in [-1, 1] and moves it by that much of `JITTER`.

    Life counts from when the certificate came: it says that it began earlier, for the sake of slow clocks.
    """
    if not -1 <= jitter <= 1:
        raise ValueError(f"jitter is within [-1, 1], not {jitter}")
    return received + (not_after - received) * (RENEW_AFTER + JITTER * jitter)
