"""The program of the image `pilot`: `discovery`, inside a Pod.

Nothing is started at import, so that a process that has already imported this can be forked into an istiod.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping

from mizzen.api.base import Duration
from mizzen.ca.authority import DEFAULT_KEY, ROOT_VALIDITY, KeyKind
from mizzen.controlplane.app import Settings, run
from mizzen.controlplane.authority import RootSettings
from mizzen.controlplane.keys import REFRESH
from mizzen.kube.http import HttpApi

_KEY_REFRESH = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"


def main() -> None:
    """Dispatches on `sys.argv[1:]`; ends with code 0 on SIGTERM."""
    parser = argparse.ArgumentParser(prog="pilot-discovery", allow_abbrev=False)
    parser.add_argument("command", choices=["discovery"])
    parser.add_argument("--monitoringAddr", default=":15014", choices=[":15014"], help="fixed; accepted as Istio's")
    parser.add_argument("--domain", default="cluster.local")
    parser.add_argument("--log_output_level", default="default:info")
    asked = parser.parse_args(sys.argv[1:])
    level = asked.log_output_level.rpartition(":")[2].upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        format="%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s",
        level=known.get(level, logging.INFO),
        stream=sys.stderr,
        force=True,
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        name = os.environ.get("POD_NAME", "istiod")
        root, refresh = root_settings(os.environ), key_refresh(os.environ)
        runner.run(_discovery(Settings(domain=asked.domain, name=name, root=root, key_refresh=refresh)))


def root_settings(environment: Mapping[str, str]) -> RootSettings:
    """What a self-signed root is to be like, in Istio's variables. Ends the process where they make no sense."""
    bits, life = (environment.get(f"CITADEL_SELF_SIGNED_CA_{name}") for name in ("RSA_KEY_SIZE", "CERT_TTL"))
    try:
        key = KeyKind(rsa_bits=int(bits)) if bits else DEFAULT_KEY
        return RootSettings(Duration.parse(life) if life else ROOT_VALIDITY, key)
    except ValueError as error:
        sys.exit(f"CITADEL_SELF_SIGNED_CA_…: {error}")


def key_refresh(environment: Mapping[str, str]) -> float:
    """Seconds, in Istio's variable; a second at least. Ends the process where it makes no sense."""
    written = environment.get(_KEY_REFRESH)
    try:
        return max(1.0, Duration.parse(written).total_seconds()) if written else REFRESH
    except ValueError as error:
        sys.exit(f"{_KEY_REFRESH}: {error}")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: a push to a thousand proxies takes half the time."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _discovery(settings: Settings) -> None:
    api = HttpApi.in_cluster()
    work = asyncio.create_task(run(settings, api))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await api.close()


if __name__ == "__main__":
    main()
