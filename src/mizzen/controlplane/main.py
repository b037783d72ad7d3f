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
from collections.abc import Callable

from mizzen.controlplane.app import Settings, run
from mizzen.kube.http import HttpApi


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
        runner.run(_discovery(Settings(domain=asked.domain, name=os.environ.get("POD_NAME", "istiod"))))


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
