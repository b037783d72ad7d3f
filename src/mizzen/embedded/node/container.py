"""A container of a Pod as the process that init shall start. Pure.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from mizzen.embedded.box.cgroups import Limits
from mizzen.embedded.box.messages import Mount, Process
from mizzen.embedded.images import Command, Function, Image, invocation
from mizzen.embedded.node import quantity
from mizzen.embedded.node.environment import expand
from mizzen.embedded.node.fields import Unresolved
from mizzen.embedded.node.payload import is_payload
from mizzen.kube.api import JSON

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINAL = {"TERM": "xterm"}
"""What runtimes tell a process with a terminal; clients send no kind of theirs."""
TERMINATION_LOG = "/dev/termination-log"
CLUSTER_DOMAIN = "cluster.local"

DEFAULT_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
)
"""What Kubernetes' usual runtimes leave a container that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the node adds to every container; `function_env` to functions of ours only."""

    python_bin: str
    function_env: Mapping[str, str]
    single_user: bool = False
    """There is no uid but 0: a proxy marks its traffic instead of being another user, which needs NET_ADMIN."""


@dataclass(frozen=True, slots=True)
class PodFiles:
    """Files of this machine that containers see in /etc."""

    hosts: str
    resolv_conf: str
    hostname: str


def process(
    pod: JSON,
    container: JSON,
    image: Image,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    machine: Machine,
    *,
    id: str,
    meta: Mapping[str, Any],
) -> Process:
    """The process of one container. Raises Unresolved when the spec asks for what cannot be."""
    command = [expand(word, env) for word in container.get("command") or ()]
    args = [expand(word, env) for word in container.get("args") or ()]
    argv, function = invocation(image, command, args)
    if not argv:
        raise Unresolved(f"image {container['image']!r} has no command, and the container names none")
    security, pod_security = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    uid = _first(security.get("runAsUser"), pod_security.get("runAsUser"), 0)
    if uid == 0 and _first(security.get("runAsNonRoot"), pod_security.get("runAsNonRoot"), False):
        raise Unresolved("container has runAsNonRoot and image will run as root")
    return Process(
        id=id,
        sandbox=pod["metadata"]["uid"],
        shares_pids=bool(pod["spec"].get("shareProcessNamespace")),
        argv=argv,
        function=function,
        env={
            **_base_env(pod, image, uid, machine, ours=bool(function)),
            **(TERMINAL if container.get("tty") else {}),
            **env,
        },
        cwd=container.get("workingDir") or (image.workdir if isinstance(image, Command) else "") or "/",
        uid=uid,
        gid=_first(security.get("runAsGroup"), pod_security.get("runAsGroup"), 1337 if uid == 1337 else 0),
        groups=groups(pod_security),
        capabilities=_with_mark(capabilities(security.get("capabilities") or {}), image, machine),
        all_capabilities=bool(security.get("privileged")) or "ALL" in _added(security),
        no_new_privileges=security.get("allowPrivilegeEscalation") is False,
        tty=bool(container.get("tty")),
        mounts=list(mounts),
        read_only_root=bool(security.get("readOnlyRootFilesystem")),
        meta=dict(meta),
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _added(security: JSON) -> list[str]:
    return [str(name).removeprefix("CAP_") for name in (security.get("capabilities") or {}).get("add") or ()]


def capabilities(spec: JSON) -> list[str]:
    """The usual set, without `drop`, with `add`; "ALL" means all of the usual set, or every one there is."""
    dropped = {str(name).removeprefix("CAP_") for name in spec.get("drop") or ()}
    added = {str(name).removeprefix("CAP_") for name in spec.get("add") or ()} - {"ALL"}
    kept = set() if "ALL" in dropped else set(DEFAULT_CAPABILITIES) - dropped
    return sorted(kept | added)


def _with_mark(named: list[str], image: Image, machine: Machine) -> list[str]:
    marks = machine.single_user and isinstance(image, Function) and image.is_proxy
    return sorted({*named, "NET_ADMIN"}) if marks else named


def limits(container: JSON) -> Limits:
    """What the container may use at most. Raises Unresolved for what is no quantity."""
    written = (container.get("resources") or {}).get("limits") or {}
    try:
        memory, cpu = (quantity.parse(written[key]) if key in written else None for key in ("memory", "cpu"))
    except ValueError as error:
        raise Unresolved(f"resources.limits: {error}") from error
    return Limits(None if memory is None else int(memory), None if cpu is None else float(cpu))


def groups(pod_security: JSON) -> list[int]:
    named = list(pod_security.get("supplementalGroups") or ())
    return [*named, pod_security["fsGroup"]] if "fsGroup" in pod_security else named


def _base_env(pod: JSON, image: Image, uid: int, machine: Machine, *, ours: bool) -> dict[str, str]:
    return {
        "PATH": f"{SYSTEM_PATH}:{machine.python_bin}",
        "HOME": {0: "/root", 1337: "/home/istio-proxy"}.get(uid, "/"),
        "HOSTNAME": kernel_hostname(pod),
        "PYTHONUNBUFFERED": "1",
        **(machine.function_env if ours else {}),
        **image.env,
    }


def hostname(pod: JSON) -> str:
    name = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return str(name)[:63].rstrip("-.")


def kernel_hostname(pod: JSON) -> str:
    """What `hostname` says in the Pod: with `setHostnameAsFQDN`, and a subdomain, the whole name."""
    spec, own = pod["spec"], hostname(pod)
    return _full_name(pod) if spec.get("setHostnameAsFQDN") and spec.get("subdomain") else own


def _full_name(pod: JSON) -> str:
    return f"{hostname(pod)}.{pod['spec']['subdomain']}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}"


def mounts(pod: JSON, container: JSON, image: Image, sources: Mapping[str, str], env: Mapping[str, str]) -> list[Mount]:
    """Volume mounts and the image's folder. `sources`: volume → path on this machine. Raises Unresolved."""
    written_here = {volume["name"] for volume in pod["spec"].get("volumes") or () if is_payload(volume)}
    result = [_mount(each, sources, env, written_here) for each in container.get("volumeMounts") or ()]
    if isinstance(image, Command) and image.workdir:
        result.append(Mount(source=image.workdir, target=image.workdir, read_only=True))
    return result


def _mount(mount: JSON, sources: Mapping[str, str], env: Mapping[str, str], written_here: Set[str]) -> Mount:
    """What the node writes (ConfigMaps, Secrets, tokens) it alone may change: it goes where links there lead."""
    if mount["name"] not in sources:
        raise Unresolved(f"volumeMount {mount['name']!r} names no volume of the Pod")
    sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise Unresolved(f"subPath {sub_path!r} leads out of volume {mount['name']!r}")
    below = posixpath.normpath(sub_path) if sub_path else ""
    return Mount(
        source=sources[mount["name"]],
        sub_path="" if below == "." else below,
        target=mount["mountPath"],
        read_only=bool(mount.get("readOnly")) or mount["name"] in written_here,
    )


def etc_mounts(files: PodFiles, container: JSON, termination_log: str) -> list[Mount]:
    """What every container gets besides its volumes."""
    return [
        Mount(source=files.hosts, target="/etc/hosts"),
        Mount(source=files.resolv_conf, target="/etc/resolv.conf"),
        Mount(source=files.hostname, target="/etc/hostname"),
        Mount(source=termination_log, target=container.get("terminationMessagePath") or TERMINATION_LOG),
    ]


def hosts_file(pod: JSON, addresses: Iterable[str]) -> str:
    """https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/"""
    own = hostname(pod)
    names = [_full_name(pod), own] if pod["spec"].get("subdomain") else [own]
    lines = ["# Written by the node.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t" + "\t".join(names) for address in addresses]
    for alias in pod["spec"].get("hostAliases") or ():
        lines.append(f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()))
    return "\n".join(lines) + "\n"


def resolv_conf(pod: JSON, server: str) -> str:
    """`server`: the cluster's DNS. It asks the machine's resolvers, which no Pod can reach: `Default` means it as well.

    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    """
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    extra = pod["spec"].get("dnsConfig") or {}
    servers, searches, options = [], [], {}
    if policy == "Default":
        servers = [server]
    elif policy != "None":
        namespace = pod["metadata"]["namespace"]
        servers = [server]
        searches = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
        options = {"ndots": "5"}
    servers += extra.get("nameservers") or []
    searches += extra.get("searches") or []
    options |= {each["name"]: each.get("value") or "" for each in extra.get("options") or ()}
    lines = [f"nameserver {each}" for each in servers]
    lines += [f"search {' '.join(searches)}"] if searches else []
    words = [f"{name}:{value}" if value else name for name, value in options.items()]
    lines += [f"options {' '.join(words)}"] if words else []
    return "\n".join(lines) + "\n"
