"""Whom a refusal means. Pure."""

from __future__ import annotations

import re

from mizzen.ads.store import Response
from mizzen.envoy.resources import CLUSTER, LISTENER

_ENVOY_TRUNCATES_ERRORS_AT = 4096


def blame(url: str, response: Response, message: str) -> tuple[set[str], set[str]]:
    """Which resources of a response a NACK refuses, and about which nothing can be said.

    Envoy applies the good clusters and listeners of a response and names the bad ones (`Error adding/updating
    cluster(s) NAME: REASON, NAME: REASON`); other types stop at the first bad one. Removals are always taken.
    """
    sent = {name for name, version in response.versions.items() if version is not None}
    if len(sent) == 1:
        return sent, set()
    refused = {name for name in sent if re.search(rf"(?:^|[\s,]){re.escape(name)}: ", message)}
    partial = url in (CLUSTER, LISTENER) and refused and len(message) < _ENVOY_TRUNCATES_ERRORS_AT
    return refused, set() if partial else sent - refused
