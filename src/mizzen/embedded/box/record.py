"""`box.json`: who and where the box is, and whether it runs. Read by every command; so it needs little."""

from __future__ import annotations

import msgspec

from mizzen.embedded.box.proc import boot_id, is_running
from mizzen.embedded.paths import ClusterPaths


class BoxError(Exception):
    """The box could not be started or stopped; the message says what to do about it."""


class Box(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who and where the box is: `box.json`. `pid`, `start_time` and `boot_id` name its pid 1 beyond doubt."""

    pid: int
    start_time: int
    boot_id: str
    address: str
    """What `mizzen ip` prints: the box's end of the link to the host, or 127.0.0.1 without one."""
    api_port: int
    """On 127.0.0.1 of the host."""
    host_address: str = ""
    interface: str = ""
    rootless: bool = False
    ipv6: bool = False
    """Pods and Services have IPv6 addresses beside those of IPv4."""
    second_address: str = ""
    """Of IPv6, beside `address`: empty without a link to the host, or where that has no IPv6."""

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def life(self) -> str:
        """What the node reports as its boot id: another one after every start of the box."""
        return f"{self.boot_id}-{self.pid}-{self.start_time}"


def read(paths: ClusterPaths) -> Box | None:
    """What the last start recorded, whether that box still runs or not."""
    try:
        return msgspec.json.decode(paths.box.read_bytes(), type=Box)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise BoxError(f"{paths.box} is damaged ({error}); remove it if no cluster of this name runs") from error


def running(paths: ClusterPaths) -> Box | None:
    """The box if it runs now."""
    box = read(paths)
    return box if box and is_alive(box) else None


def is_alive(box: Box) -> bool:
    return box.boot_id == boot_id() and is_running(box.pid, box.start_time)


def record(paths: ClusterPaths, box: Box) -> None:
    """Whole or not at all."""
    fresh = paths.box.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(box))
    fresh.replace(paths.box)
