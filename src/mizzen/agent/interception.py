"""Which connections of a Pod meet the proxy, as an nftables table. Pure: arguments of `istio-iptables` in, table out.

The rules are Istio's REDIRECT rules in Istio's order, for IPv4 and, where the Pod has it, IPv6 in one `inet` table.
Where uid 1337 cannot exist, the proxy's own traffic is told apart by a packet mark and not by its owner.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import NoReturn

from mizzen.agent.settings import CAPTURE_MARK
from mizzen.nftables.expressions import IPV6
from mizzen.nftables.fields import (
    IIFNAME,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    L4PROTO,
    MARK,
    NFPROTO,
    OIFNAME,
    SKGID,
    SKUID,
    TCP_DPORT,
    Field,
    Statement,
)
from mizzen.nftables.ruleset import Chain, Hook, Rule, Table, jump, leave, redirect

TABLE = "mizzen-capture"
TUNNEL_PORT = 15008
_NAT_PRIORITY = -100
_TCP = 6

_INBOUND, _OUTPUT, _IN_REDIRECT, _REDIRECT = "ISTIO_INBOUND", "ISTIO_OUTPUT", "ISTIO_IN_REDIRECT", "ISTIO_REDIRECT"


class CaptureRefused(ValueError):
    """These arguments ask for something that is not served; the text says what."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What `istio-iptables` is asked to capture. `*` in `cidrs` or `inbound_ports` means all."""

    outbound_port: int = 15001
    inbound_port: int = 15006
    uids: tuple[int, ...] = (1337,)
    gids: tuple[int, ...] = (1337,)
    inbound_ports: tuple[str, ...] = ()
    excluded_inbound_ports: tuple[int, ...] = ()
    cidrs: tuple[str, ...] = ()
    excluded_cidrs: tuple[str, ...] = ()
    outbound_ports: tuple[int, ...] = ()
    """Captured wherever they lead, even outside `cidrs`."""
    excluded_outbound_ports: tuple[int, ...] = ()
    excluded_interfaces: tuple[str, ...] = ()
    by_mark: bool = False
    """The proxy's traffic is known by its mark; uids and gids say nothing."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CaptureRefused(message)


def read_arguments(arguments: Sequence[str], *, by_mark: bool = False) -> Capture:
    """Istio's flags, long or short. Raises CaptureRefused for what is malformed or not served."""
    asked = _parser().parse_args(arguments)
    _refuse_what_is_not_served(asked)
    try:
        return Capture(
            outbound_port=int(asked.envoy_port),
            inbound_port=int(asked.inbound_capture_port),
            uids=_numbers(asked.proxy_uid),
            gids=_numbers(asked.proxy_gid),
            inbound_ports=_listed(asked.istio_inbound_ports),
            excluded_inbound_ports=_numbers(asked.istio_local_exclude_ports),
            cidrs=_networks(asked.istio_service_cidr),
            excluded_cidrs=_networks(asked.istio_service_exclude_cidr),
            outbound_ports=_numbers(asked.istio_outbound_ports),
            excluded_outbound_ports=_numbers(asked.istio_local_outbound_ports_exclude),
            excluded_interfaces=_listed(asked.istio_exclude_interfaces),
            by_mark=by_mark,
        )
    except ValueError as error:
        raise CaptureRefused(str(error)) from error


def interception(capture: Capture, *, ipv6: bool) -> Table:
    """The whole table.

    Without `ipv6`, Envoy is not there to take it: what the application calls so is left alone, and who calls the Pod
    so, by a link-local address, meets a closed port and not the application past Envoy.
    """
    left_alone = () if ipv6 else (Rule(NFPROTO.is_(IPV6), leave()),)
    return Table(
        TABLE,
        (
            Chain("prerouting", _entry(capture, IIFNAME, _INBOUND), Hook("nat", "prerouting", _NAT_PRIORITY)),
            Chain("output", (*left_alone, *_entry(capture, OIFNAME, _OUTPUT)), Hook("nat", "output", _NAT_PRIORITY)),
            Chain(_INBOUND, tuple(_inbound(capture))),
            Chain(_OUTPUT, tuple(_outbound(capture, _families(ipv6)))),
            Chain(_IN_REDIRECT, (Rule(L4PROTO.is_(_TCP), redirect(capture.inbound_port)),)),
            Chain(_REDIRECT, (Rule(L4PROTO.is_(_TCP), redirect(capture.outbound_port)),)),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Family:
    """One IP version's words: `own` is where inbound Envoy calls the app from."""

    source: Field
    destination: Field
    own: str
    loopback: str


INBOUND_SOURCE_IPV6 = "::6"
_IPV4_FAMILY = _Family(IP_SADDR, IP_DADDR, "127.0.0.6", "127.0.0.1")
_IPV6_FAMILY = _Family(IP6_SADDR, IP6_DADDR, INBOUND_SOURCE_IPV6, "::1")


def _families(ipv6: bool) -> tuple[_Family, ...]:
    return (_IPV4_FAMILY, _IPV6_FAMILY) if ipv6 else (_IPV4_FAMILY,)


def _entry(capture: Capture, interface: Field, chain: str) -> tuple[Rule, ...]:
    excluded = (Rule(interface.is_(name), leave()) for name in capture.excluded_interfaces)
    return (*excluded, Rule(L4PROTO.is_(_TCP), jump(chain)))


def _inbound(capture: Capture) -> Iterable[Rule]:
    yield Rule(TCP_DPORT.is_(TUNNEL_PORT), leave())
    if "*" not in capture.inbound_ports:
        for port in capture.inbound_ports:
            yield Rule(TCP_DPORT.is_(int(port)), jump(_IN_REDIRECT))
        return
    for excluded in capture.excluded_inbound_ports:
        yield Rule(TCP_DPORT.is_(excluded), leave())
    yield Rule(jump(_IN_REDIRECT))


def _outbound(capture: Capture, families: tuple[_Family, ...]) -> Iterable[Rule]:
    for port in capture.excluded_outbound_ports:
        yield Rule(TCP_DPORT.is_(port), leave())
    for family in families:
        yield Rule(OIFNAME.is_("lo"), family.source.is_(family.own), leave())
    for is_proxy, is_app in _owners(capture):
        yield from _proxy_traffic(is_proxy, is_app, families)
    for family in families:
        yield Rule(family.destination.is_(family.loopback), leave())
    for network in capture.excluded_cidrs:
        yield Rule(_destination(network), leave())
    for port in capture.outbound_ports:
        yield Rule(TCP_DPORT.is_(port), jump(_REDIRECT))
    for network in capture.cidrs:
        yield Rule(jump(_REDIRECT)) if network == "*" else Rule(_destination(network), jump(_REDIRECT))


def _owners(capture: Capture) -> list[tuple[Statement, Statement]]:
    """Pairs of "it is the proxy's" and "it is not"."""
    if capture.by_mark:
        return [(MARK.is_(CAPTURE_MARK), MARK.is_not(CAPTURE_MARK))]
    owned = [(SKUID, uid) for uid in capture.uids] + [(SKGID, gid) for gid in capture.gids]
    return [(field.is_(number), field.is_not(number)) for field, number in owned]


def _proxy_traffic(is_proxy: Statement, is_app: Statement, families: tuple[_Family, ...]) -> Iterable[Rule]:
    """A proxy that calls its own Pod by address means the inbound side; what it calls elsewhere is final."""
    lo, not_tunnel = OIFNAME.is_("lo"), TCP_DPORT.is_not(TUNNEL_PORT)
    for family in families:
        elsewhere = family.destination.is_not(family.loopback)
        yield Rule(lo, elsewhere, not_tunnel, is_proxy, jump(_IN_REDIRECT))
    yield Rule(lo, is_app, leave())
    yield Rule(is_proxy, leave())


def _destination(network: str) -> Statement:
    return (IP6_DADDR if ":" in network else IP_DADDR).within(network)


def _parser() -> _Parser:
    parser = _Parser(prog="istio-iptables", allow_abbrev=False, add_help=False)
    for short, long, default in _FLAGS:
        parser.add_argument(*([short] if short else []), f"--{long}", default=default)
    for long in _SWITCHES_NOT_SERVED:
        parser.add_argument(f"--{long}", action="store_true")
    return parser


_FLAGS = (
    ("-p", "envoy-port", "15001"),
    ("-z", "inbound-capture-port", "15006"),
    ("-e", "inbound-tunnel-port", str(TUNNEL_PORT)),
    ("-u", "proxy-uid", "1337"),
    ("-g", "proxy-gid", "1337"),
    ("-m", "istio-inbound-interception-mode", "REDIRECT"),
    ("-b", "istio-inbound-ports", ""),
    ("-d", "istio-local-exclude-ports", ""),
    ("-i", "istio-service-cidr", ""),
    ("-x", "istio-service-exclude-cidr", ""),
    ("-q", "istio-outbound-ports", ""),
    ("-o", "istio-local-outbound-ports-exclude", ""),
    ("-k", "kube-virt-interfaces", ""),
    ("-c", "istio-exclude-interfaces", ""),
    (None, "log_output_level", ""),
)
_SWITCHES_NOT_SERVED = ("redirect-dns", "run-validation", "skip-rule-apply", "cleanup", "drop-invalid")


def _refuse_what_is_not_served(asked: argparse.Namespace) -> None:
    if asked.istio_inbound_interception_mode != "REDIRECT":
        raise CaptureRefused(
            f"interception mode {asked.istio_inbound_interception_mode} is not served, only REDIRECT: "
            "remove the annotation sidecar.istio.io/interceptionMode"
        )
    if asked.kube_virt_interfaces:
        raise CaptureRefused("rerouting virtual interfaces (-k) is not served")
    if asked.inbound_tunnel_port != str(TUNNEL_PORT):
        raise CaptureRefused(f"the tunnel port is {TUNNEL_PORT} and cannot be moved")
    for switch in _SWITCHES_NOT_SERVED:
        if getattr(asked, switch.replace("-", "_")):
            raise CaptureRefused(f"--{switch} is not served")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _listed(text))


def _networks(text: str) -> tuple[str, ...]:
    """`*`, or networks as CIDR: each is read here, so that a typo is told before any rule is written."""
    return tuple(part if part == "*" else str(ip_network(part, strict=False)) for part in _listed(text))
