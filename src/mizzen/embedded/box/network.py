"""The box's network: one bridge, one veth pair per Pod, and as root one veth pair to the host.

Pods have addresses for themselves alone (/32) and reach everything through the bridge's own. So every packet between
Pods is routed and passes the box's nftables, where Services and NetworkPolicies are: the bridge's ports are isolated
from each other. Filtering of bridged frames is off. A Pod that calls itself through a Service needs no hairpin on the
way, and gets it anyway for machines on which that cannot be.

With IPv6 every Pod has a second address, which follows from its first, as does its Ethernet address. So both sides know
their neighbours for good: nobody asks for them, nobody waits until an address is known to be unique, and no Pod can
answer for another. Nobody has a link-local address.
"""

from __future__ import annotations

import errno
import ipaddress
import platform
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mizzen.embedded.box.addresses import (
    API_ADDRESS,
    BRIDGE,
    DNS_ADDRESS,
    GATEWAY,
    GATEWAY_IPV6,
    LINKS,
    PODS,
    PODS_IPV6,
    SERVICES,
    SERVICES_IPV6,
    mac,
    second_address,
)
from mizzen.nftables.pyroute import alone

with alone():
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UPLINK = "uplink0"

_BRIDGE_FILTER = "net/bridge/bridge-nf-call-"
_IPV6 = "net/ipv6/conf"
_NODAD = 0x02
_ONLINK = 0x04
_NO_LINK_LOCAL = "1"
"""addr_gen_mode"""


@dataclass(frozen=True, slots=True)
class Uplink:
    """The veth pair host ↔ box: `host_address` and `address` (the box's) are a /30's two hosts."""

    interface: str
    host_address: str
    address: str
    ipv6: bool
    """Both ends have second addresses."""


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the calling process's network namespace. `name` as in sysctl(8), but with slashes."""
    Path("/proc/sys", name).write_text(value)


def expire_orphans() -> None:
    """Connections whose both ends were killed at once keep their network namespace until the kernel gives up on them.

    That takes it a hundred seconds by default; here, where peers are microseconds away, three are plenty. (A peer
    that is alive but reads slowly answers the probes, and is not given up.)
    """
    write_sysctl("net/ipv4/tcp_orphan_retries", "3")


def machine_has_ipv6() -> bool:
    """Whether the kernel has IPv6 and nobody has switched it off here, for interfaces that are there or new."""
    switches = [Path("/proc/sys", _IPV6, each, "disable_ipv6") for each in ("all", "default")]
    return all(each.exists() and each.read_text().strip() == "0" for each in switches)


def prepare_box(*, ipv6: bool = False) -> None:
    """Inside a fresh network namespace: loopback, bridge with the cluster's addresses, forwarding."""
    if ipv6:
        write_sysctl(f"{_IPV6}/default/addr_gen_mode", _NO_LINK_LOCAL)
    with IPRoute() as route:
        route.link("set", index=1, state="up")
        route.link("add", ifname=BRIDGE, kind="bridge", address=mac(GATEWAY))
        bridge = _index(BRIDGE)
        for address, prefix in ((GATEWAY, PODS.prefixlen), (API_ADDRESS, 32), (DNS_ADDRESS, 32)):
            route.addr("add", index=bridge, address=address, prefixlen=prefix)
        route.link("set", index=bridge, state="up")
        # A local process that dials a ClusterIP needs a route before OUTPUT nat gets to see the packet.
        route.route("add", dst=SERVICES, oif=bridge, prefsrc=GATEWAY)
        if ipv6:
            _prepare_ipv6(route, bridge)
    write_sysctl("net/ipv4/ip_forward", "1")
    for interface in ("all", BRIDGE):
        write_sysctl(f"net/ipv4/conf/{interface}/send_redirects", "0")
    write_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    _let_frames_pass()
    expire_orphans()


def _prepare_ipv6(route: IPRoute, bridge: int) -> None:
    route.addr("add", index=bridge, address=GATEWAY_IPV6, prefixlen=PODS_IPV6.prefixlen, flags=_NODAD)
    route.route("add", dst=SERVICES_IPV6, oif=bridge, prefsrc=GATEWAY_IPV6)
    write_sysctl(f"{_IPV6}/all/forwarding", "1")


def _let_frames_pass() -> None:
    """With br_netfilter, a frame whose destination is translated would be bridged on, past the routing of the box."""
    for name in ("iptables", "ip6tables", "arptables"):
        with suppress(OSError):  # not there, or not to be written: then ports are not isolated
            write_sysctl(f"{_BRIDGE_FILTER}{name}", "0")


def ports_can_be_isolated() -> bool:
    """Inside the box, once prepared: whether nothing filters frames. Else isolated ports would lose what is translated.

    Since Linux 5.3 each network namespace has its own switch, and none where nothing filters frames.
    """
    switch = Path("/proc/sys", f"{_BRIDGE_FILTER}iptables")
    if switch.exists():
        return switch.read_text().strip() == "0"
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= (5, 3)


def configure_uplink(address: str, *, ipv6: bool) -> None:
    """Inside the box: the end that the host moved in gets its addresses."""
    with IPRoute() as route:
        uplink = _index(UPLINK)
        route.addr("add", index=uplink, address=address, prefixlen=30)
        route.link("set", index=uplink, state="up")
        if ipv6:
            _link_by_ipv6(route, uplink, address, str(ipaddress.IPv4Address(address) - 1))


def _link_by_ipv6(route: IPRoute, interface: int, own: str, other: str) -> None:
    """`own` and `other`: the IPv4 addresses of this end and of the other one."""
    route.addr("add", index=interface, address=second_address(own), prefixlen=126, flags=_NODAD)
    _know(route, second_address(other), mac(other), interface)


def plug_in(address: str, box_namespace: int, port: str, *, ipv6: bool = False) -> None:
    """Inside a Pod's fresh network namespace: loopback and `eth0`, whose other end `port` appears in the box."""
    _limit_ipv6(ipv6)
    with IPRoute() as route:
        route.link("set", index=1, state="up")
        peer = {"ifname": port, "net_ns_fd": box_namespace}
        route.link("add", ifname="eth0", kind="veth", address=mac(address), peer=peer)
        eth0 = _index("eth0")
        route.addr("add", index=eth0, address=address, prefixlen=32)
        route.link("set", index=eth0, state="up")
        route.route("add", dst=f"{GATEWAY}/32", oif=eth0, scope="link")
        route.route("add", dst="default", gateway=GATEWAY, oif=eth0)
        if ipv6:
            own = second_address(address)
            route.addr("add", index=eth0, address=own, prefixlen=128, flags=_NODAD)
            _know(route, GATEWAY_IPV6, mac(GATEWAY), eth0)
            route.route("add", dst="::/0", gateway=GATEWAY_IPV6, oif=eth0, flags=_ONLINK)
    write_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    expire_orphans()


def _limit_ipv6(ipv6: bool) -> None:
    """Interfaces to come have no IPv6, or of its addresses only those that they are given. Loopback keeps ::1."""
    if ipv6:
        write_sysctl(f"{_IPV6}/default/addr_gen_mode", _NO_LINK_LOCAL)
    elif Path("/proc/sys", _IPV6).exists():
        write_sysctl(f"{_IPV6}/default/disable_ipv6", "1")


def _know(route: IPRoute, address: str, ethernet_address: str, interface: int) -> None:
    """A neighbour for good."""
    route.neigh("replace", dst=address, lladdr=ethernet_address, ifindex=interface, state="permanent")


def attach(port: str, address: str = "") -> None:
    """Inside the box: the box's end of a Pod's veth pair joins the bridge, in hairpin mode. `address`: the Pod's, if it
    has a second one.

    Isolated ports reach the bridge and not each other. Nothing must go from Pod to Pod but through the box's nftables:
    not by link-local addresses either, nor by frames that a Pod has written itself.
    """
    with IPRoute() as route:
        index, bridge = _index(port), _index(BRIDGE)
        route.link("set", index=index, master=bridge, state="up")
        route.brport("set", index=index, mode=1, isolated=int(ports_can_be_isolated()))
        if address:
            _know(route, second_address(address), mac(address), bridge)


def join_host(pid: int, interface: str, *, ipv6: bool) -> Uplink:
    """On the host: a veth pair into the network namespace of `pid`, on a /30 nothing else here uses. Raises OSError.

    It has IPv6, if wanted, as far as this machine has, and nothing else here uses those addresses.
    """
    leave_host(interface)
    with _one_at_a_time(), IPRoute() as route:
        used = _used_networks(route)
        host_address, address = free_link([each for each in used if isinstance(each, ipaddress.IPv4Network)])
        ipv6 = ipv6 and machine_has_ipv6() and _is_free(second_address(host_address), used)
        peer = {"ifname": UPLINK, "net_ns_pid": pid, "address": mac(address)}
        route.link("add", ifname=interface, kind="veth", address=mac(host_address), peer=peer)
        index = _index(interface)
        route.addr("add", index=index, address=host_address, prefixlen=30)
        route.link("set", index=index, state="up")
        if ipv6:
            _link_by_ipv6(route, index, host_address, address)
    return Uplink(interface, host_address, address, ipv6)


def _is_free(address: str, used: Iterable[Network]) -> bool:
    return not any(ipaddress.ip_address(address) in network for network in used)


def leave_host(interface: str) -> None:
    """On the host: take the pair away, should the kernel not have done so yet. Nothing if it is gone."""
    with IPRoute() as route:
        for index in route.link_lookup(ifname=interface):
            try:
                route.link("del", index=index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:  # it went by itself just now
                    raise


def free_link(used: list[ipaddress.IPv4Network]) -> tuple[str, str]:
    """The first /30 that overlaps none of `used`: its two addresses. Raises OSError when all are taken."""
    for network in LINKS.subnets(new_prefix=30):
        if not any(network.overlaps(other) for other in used):
            first, second = network.hosts()
            return str(first), str(second)
    raise OSError(f"no free /30 left in {LINKS} for the link to the cluster; routes of this machine cover it")


def _used_networks(route: IPRoute) -> list[Network]:
    """Where this machine's addresses and routes lead, the default routes aside."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        found += [(each.get_attr("IFA_ADDRESS"), each["prefixlen"]) for each in route.get_addr(family=family)]
        routes = (each for each in route.get_routes(family=family) if each["dst_len"])
        found += [(each.get_attr("RTA_DST"), each["dst_len"]) for each in routes]
    return [ipaddress.ip_network(f"{address}/{length}", strict=False) for address, length in found]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """An abstract socket's name is unique per network namespace: exactly as far as addresses must not collide."""
    lock = socket.socket(socket.AF_UNIX)
    with lock:
        for _ in range(2000):
            try:
                lock.bind("\0mizzen-uplink-addresses")
                break
            except OSError:
                time.sleep(0.01)
        else:
            raise OSError("another cluster has been choosing an address for 20 seconds; is it stopped (SIGSTOP)?")
        yield


def _index(interface: str) -> int:
    """In the network of the calling thread. Raises OSError."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise OSError(error.errno, f"network interface {interface} is not there") from error
