"""YAML as JSON values, the way Kubernetes reads it: keys are texts, dates stay texts, and aliases cannot explode."""

from __future__ import annotations

import math
from typing import Any

import yaml

MAX_NODES = 500_000
"""Far more than fits into the largest body without aliases of aliases."""


class NotJson(Exception):
    """The text is no YAML, or says what JSON cannot; the text says why."""


class _Loader(yaml.CSafeLoader):
    """Without dates: Kubernetes knows them as texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def load(text: bytes) -> Any:
    """Raises NotJson."""
    try:
        return _Conversion().value(yaml.load(text, Loader=_Loader))  # noqa: S506 - it is safe
    except RecursionError:
        raise NotJson("it is nested too deeply, or contains itself") from None
    except (yaml.YAMLError, ValueError) as error:
        raise NotJson(str(error)) from None


class _Conversion:
    """Counts what comes out: a few lines of aliases can stand for more than any memory holds."""

    def __init__(self) -> None:
        self._nodes = 0

    def value(self, found: Any) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise NotJson("its aliases stand for too much")
        if isinstance(found, dict):
            return {_key(key): self.value(item) for key, item in found.items()}
        if isinstance(found, (list, tuple)):
            return [self.value(item) for item in found]
        if isinstance(found, float) and not math.isfinite(found):
            raise NotJson(f"{found} is no number of JSON")
        if found is None or isinstance(found, (str, bool, int, float)):
            return found
        if isinstance(found, bytes):
            return found.decode(errors="replace")
        raise NotJson(f"a {type(found).__name__} is no value of JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise NotJson(f"{key!r} is no key of JSON")
