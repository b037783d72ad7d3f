"""API servers without sockets for tests: each with a store of its own, which begins as every cluster's does."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from mizzen.embedded.apiserver.application import Application, open_application
from mizzen.embedded.apiserver.pki_files import Pki

STORE = "store.db"


@contextlib.asynccontextmanager
async def opened(state: Path, pki: Pki) -> AsyncIterator[Application]:
    """In the folder `state`. What every cluster begins with is written once for these keys, then copied."""
    shutil.copyfile(await _beginning(pki), state / STORE)
    application = await open_application(state, pki)
    try:
        yield application
    finally:
        await application.close()


async def _beginning(pki: Pki) -> Path:
    kept = pki.folder / STORE
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=pki.folder) as folder:
            await (await open_application(Path(folder), pki)).close()
            (Path(folder) / STORE).rename(kept)
    return kept
