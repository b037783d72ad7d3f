"""pyroute2's modules without pyroute2: importing the package loads all that it can do, 5 MB and a twentieth of a second
of processor time more than the messages need that we send. Every command and every daemon would pay for it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def alone() -> Iterator[None]:
    """Modules of pyroute2 that are imported within bring only what they import themselves. Whoever imports the package
    later gets it whole, with the same modules."""
    if "pyroute2" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("pyroute2")
    if spec is None:
        raise ModuleNotFoundError("pyroute2 is not installed", name="pyroute2")
    sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules["pyroute2"]
