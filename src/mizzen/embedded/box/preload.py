"""What containers of ours need, loaded into init once, so that each of them costs a fork."""

from __future__ import annotations

import gc
import importlib
import logging
from collections import deque
from collections.abc import Iterable

from mizzen.embedded import images

log = logging.getLogger("mizzen.init")

_LIBRARIES = ("grpc", "cryptography.x509", "google.protobuf.message", "msgspec.json", "http.server", "urllib.request")


class Preload:
    """Modules still to be imported, one per `step`: init does it while it has nothing else to do.

    A module may have a `preload` function for what importing alone does not bring into memory. It must start no thread.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._pending = deque(modules)

    def __bool__(self) -> bool:
        return bool(self._pending)

    def step(self) -> None:
        """Import one module. A module that is not there is only logged: its images cannot be started, others can."""
        name = self._pending.popleft()
        try:
            module = importlib.import_module(name)
            if hasattr(module, "preload"):
                module.preload()
        except ImportError as error:
            log.warning("not preloaded: %s: %s", name, error)
        if not self._pending:
            gc.collect()
            gc.freeze()

    def finish(self) -> None:
        while self._pending:
            self.step()


def everything() -> Preload:
    """The libraries that agent, control plane and samples share, then those themselves."""
    return Preload((*_LIBRARIES, *images.builtin_modules()))
