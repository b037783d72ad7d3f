"""The channel protocol of exec and attach over WebSocket: the first byte of a binary message names its channel.

v5 adds the message (255, channel), by which a side closes one channel.
https://github.com/kubernetes/kubernetes/blob/release-1.32/staging/src/k8s.io/apimachinery/pkg/util/httpstream/wsstream/doc.go
"""

from __future__ import annotations

from typing import Final

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
CLOSE: Final = 255

BY_STREAM_TYPE: Final = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
"""The `streamtype` header of a SPDY stream says the same as a channel's number."""


def message(channel: int, data: bytes) -> bytes:
    return bytes((channel,)) + data


def close(channel: int) -> bytes:
    return bytes((CLOSE, channel))


def parse(data: bytes) -> tuple[int, bytes]:
    """The channel and its bytes. An empty message belongs to no channel and raises ValueError."""
    if not data:
        raise ValueError("a message without a channel byte")
    return data[0], data[1:]
