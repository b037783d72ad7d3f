"""The machine's certificate authorities are read by whoever checks against them, not by whoever loads an HTTP library.

aiohttp reads them twice when it is imported: 70 ms of processor time and 2 MB for every command and every daemon, and
what we talk to is signed by authorities of our own. Whoever asks elsewhere gives a context with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_WHERE = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def unread() -> Iterator[None]:
    """Within, OpenSSL finds no certificate authorities in the places of the machine. For imports: a process has one
    environment."""
    before = {name: os.environ.get(name) for name in _WHERE}
    os.environ.update(dict.fromkeys(_WHERE, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
