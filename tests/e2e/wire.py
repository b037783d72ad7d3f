"""Every frame that crosses the box's network, on whichever interface: read as root from a packet socket."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mizzen.embedded.box import kernel

_EVERY_PROTOCOL = 3
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_LARGEST_FRAME = 65536
_ETHERNET, _ADDRESSES = 14, slice(12, 20)


class Wire:
    """Frames seen so far. `seen` waits for nobody: call it once what is looked for has been answered."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._frames: list[bytes] = []

    def seen(self, text: bytes, addresses: Sequence[str]) -> int:
        """How many frames to or from these IPv4 addresses hold the text. The kernel must have dropped none."""
        self._drain()
        wanted = {socket.inet_aton(address) for address in addresses}
        return sum(text in frame and not wanted.isdisjoint(_ends(frame)) for frame in self._frames)

    def _drain(self) -> None:
        while True:
            try:
                self._frames.append(self._listening.recv(_LARGEST_FRAME))
            except BlockingIOError:
                break
        statistics = self._listening.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, dropped = struct.unpack("II", statistics)
        assert dropped == 0, f"the capture missed {dropped} frames"


def _ends(frame: bytes) -> tuple[bytes, bytes]:
    """Source and destination of an IPv4 frame; of another, something that is neither."""
    packet = frame[_ETHERNET:]
    addresses = packet[_ADDRESSES] if packet[:1] and packet[0] >> 4 == 4 else b""
    return addresses[:4], addresses[4:]


@contextmanager
def tapped(pid: int) -> Iterator[Wire]:
    """What crosses the network namespace of a process. Needs root."""
    opened: list[socket.socket] = []

    def listen() -> None:
        """In a thread of its own: only that thread moves, and the socket stays where it was made."""
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            kernel.setns(namespace.fileno(), kernel.CLONE_NEWNET)
        opened.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    with opened[0] as listening:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        yield Wire(listening)
