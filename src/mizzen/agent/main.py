"""The program of the image `proxyv2`, as pilot-agent: `proxy sidecar|router`, `istio-iptables`, `request`, `wait`.

Nothing is started at import, so that a process that has already imported this can be forked into an agent.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

from mizzen.agent import envoy
from mizzen.agent.addresses import ipv6_addresses
from mizzen.agent.bootstrap import HEALTH_PORT
from mizzen.agent.interception import CaptureRefused
from mizzen.agent.outgoing import call
from mizzen.agent.proxy import run_proxy
from mizzen.agent.sds import is_served
from mizzen.agent.settings import ADMIN_PORT, Paths, ProxyType, Settings, SettingsError, downward_pairs, read_settings
from mizzen.ca.authority import new_key, signing_request

SDS_SOCKET_NAME, SDS_SOCKET = "WORKLOAD_IDENTITY_SOCKET_FILE", "socket"
"""Istio's variable for a socket of another name than ours: one that must be there."""
_LOG_FORMAT = "%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s"


def main() -> None:
    """Dispatches on `sys.argv[1:]` and exits with the command's code."""
    arguments = sys.argv[1:]
    commands = {"proxy": proxy, "istio-iptables": istio_iptables, "request": request, "wait": wait}
    name = arguments[0] if arguments else ""
    if name not in commands:
        sys.exit(f"unknown command {name!r}: this agent serves {', '.join(commands)}")
    try:
        sys.exit(commands[name](arguments[1:]))
    except (SettingsError, CaptureRefused) as error:
        sys.exit(f"{name}: {error}")


def preload() -> None:
    """For a process that forks agents: what each would otherwise load for itself, 4 MB of OpenSSL among it."""
    importlib.import_module("mizzen.agent.capture")
    asyncio.run(asyncio.sleep(0))
    signing_request(new_key(), "spiffe://preload/ns/none/sa/none")


def proxy(arguments: list[str]) -> int:
    """`proxy sidecar|router --domain … --proxyLogLevel … --proxyComponentLogLevel … --log_output_level …`"""
    settings = _proxy_settings(_proxy_parser().parse_args(arguments))
    envoy.write_bootstrap(settings)
    waiting = envoy.fork_envoy(envoy.envoy_path(), envoy.envoy_arguments(settings))
    return asyncio.run(run_proxy(settings, waiting))


def istio_iptables(arguments: list[str]) -> int:
    """`istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT …`"""
    # Netlink is of no use to a proxy, and its library costs 20 MB where nobody has loaded it yet.
    from mizzen.agent.capture import capture

    return capture(arguments, os.environ)


def request(arguments: list[str]) -> int:
    """`request [--debug-port=15020] POST drain`: asks Envoy's admin, or the agent itself, and prints the answer."""
    parser = argparse.ArgumentParser(prog="request")
    parser.add_argument("--debug-port", type=int, default=ADMIN_PORT)
    parser.add_argument("method")
    parser.add_argument("path")
    asked = parser.parse_args(arguments)
    try:
        reply = asyncio.run(call(asked.method, asked.debug_port, "/" + asked.path.lstrip("/")))
    except OSError as error:
        sys.exit(f"port {asked.debug_port} does not answer: {error}")
    sys.stdout.write(reply.text)
    return 0 if reply.status < 400 else 1


def wait(arguments: list[str]) -> int:
    """`wait`: until the proxy is ready; what holds an app back until it has a network."""
    parser = argparse.ArgumentParser(prog="wait")
    parser.add_argument("--timeoutSeconds", type=float, default=60)
    parser.add_argument("--periodMillis", type=float, default=500)
    asked = parser.parse_args(arguments)
    give_up = time.monotonic() + asked.timeoutSeconds
    while (problem := asyncio.run(_not_ready())) and time.monotonic() < give_up:
        time.sleep(asked.periodMillis / 1000)
    if problem:
        sys.exit(f"the proxy is not ready after {asked.timeoutSeconds:.0f} s: {problem}")
    return 0


async def _not_ready() -> str:
    """Why; empty when it is."""
    try:
        reply = await call("GET", HEALTH_PORT, "/healthz/ready")
    except OSError as error:
        return str(error)
    return "" if reply.status == 200 else reply.text


def _proxy_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="proxy", allow_abbrev=False)
    parser.add_argument("type", choices=("sidecar", "router"))
    parser.add_argument("--domain", default="")
    parser.add_argument("--proxyLogLevel", default="warning")
    parser.add_argument("--proxyComponentLogLevel", default="misc:error")
    parser.add_argument("--log_output_level", default="default:info")
    return parser


def _proxy_settings(asked: argparse.Namespace) -> Settings:
    _log_to_stderr(asked.log_output_level)
    paths = _paths()
    return read_settings(
        cast(ProxyType, asked.type),
        os.environ,
        domain=asked.domain,
        labels=downward_pairs(_read_if_there(paths.labels)),
        annotations=downward_pairs(_read_if_there(paths.annotations)),
        paths=paths,
        ipv6_addresses=ipv6_addresses(),
        external_sds=_secrets_of_somebody_else(paths),
        log_level=asked.proxyLogLevel,
        component_log_level=asked.proxyComponentLogLevel,
    )


def _paths() -> Paths:
    """Istio's places, below `MIZZEN_AGENT_ROOT` where a test or a tool wants them elsewhere."""
    root = os.environ.get("MIZZEN_AGENT_ROOT", "")
    moved = Paths(**{name: root + getattr(Paths(), name) for name in Paths.__dataclass_fields__})
    named = os.environ.get(SDS_SOCKET_NAME) or SDS_SOCKET
    if Path(named).name != named:
        raise SettingsError(f"{SDS_SOCKET_NAME}: {named!r} is no file's name; the folder is fixed")
    return replace(moved, sds_socket=str(Path(moved.sds_socket).with_name(named)))


def _secrets_of_somebody_else(paths: Paths) -> bool:
    """Whether a server of the Pod's secrets is there before us, in a mounted folder. Raises SettingsError where one
    was named and is not."""
    found = is_served(paths.sds_socket)
    if not found and Path(paths.sds_socket).name != SDS_SOCKET:
        raise SettingsError(f"{SDS_SOCKET_NAME}: nobody serves {paths.sds_socket}; is the volume of SPIRE mounted?")
    return found


def _read_if_there(path: str) -> str:
    """A Pod without the downward API volume has no labels to tell."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def _log_to_stderr(output_level: str) -> None:
    """`default:info` and friends: only the default scope's level is honoured, the agent has no other scopes."""
    level = dict(part.partition(":")[::2] for part in output_level.split(",")).get("default", "info")
    known = logging.getLevelNamesMapping()
    logging.basicConfig(format=_LOG_FORMAT, level=known.get(level.upper(), logging.INFO), stream=sys.stderr, force=True)


if __name__ == "__main__":
    main()
