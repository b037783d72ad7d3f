"""Places in filter chains whose contents travel by ECDS, so that an edit of a policy never changes a listener.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/overview/extension
Every slot is filled from the first listener on, with a filter that does nothing where there is nothing to do. A
listener waits for the contents of its slots. Should a content ever go missing, a slot that authorizes denies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from mizzen.envoy.messages import (
    HttpFilter,
    Message,
    NetworkFilter,
    TypedExtensionConfig,
    pack,
    serialized,
)
from mizzen.envoy.resources import Resource
from mizzen.xds.addresses import ADS


class Slot(NamedTuple):
    """`default` holds when there is no content; `others` are the types that it may have besides."""

    name: str
    default: Message
    others: tuple[Any, ...] = ()

    def http_filter(self) -> Message:
        return HttpFilter(name=self.name, config_discovery=self._discovery())

    def network_filter(self) -> Message:
        return NetworkFilter(name=self.name, config_discovery=self._discovery())

    def content(self, config: Message) -> Resource:
        """What is to be in the slot."""
        body = serialized(config)
        return (_short if len(body) < _SHORT else _content)(self.name, config.DESCRIPTOR.full_name, body)

    def _discovery(self) -> dict[str, Any]:
        names = (self.default.DESCRIPTOR.full_name, *(other.DESCRIPTOR.full_name for other in self.others))
        return {
            "config_source": ADS,
            "default_config": pack(self.default),
            "apply_default_config_without_warming": False,
            "type_urls": [f"type.googleapis.com/{name}" for name in names],
        }


def _content(name: str, message: str, body: bytes) -> Resource:
    packed = {"type_url": f"type.googleapis.com/{message}", "value": body}
    return Resource.of(name, serialized(TypedExtensionConfig(name=name, typed_config=packed)))


_SHORT = 64
_short = lru_cache(maxsize=64)(_content)
"""Most slots of most workloads hold the same few bytes that do nothing: written once."""
