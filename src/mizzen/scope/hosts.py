"""Names: what matches what, which of two is more specific, and which `Host` headers lead to a service."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

DOMAIN = "cluster.local"
T = TypeVar("T")


def is_wildcard(host: str) -> bool:
    return host.startswith("*")


def matches(one: str, other: str) -> bool:
    """Some concrete name is covered by both: `*.com` and `a.com`, `*.com` and `*.a.com`."""
    return subset_of(one, other) or subset_of(other, one)


def subset_of(one: str, other: str) -> bool:
    """Every name that `one` covers is covered by `other`."""
    if is_wildcard(other):
        if is_wildcard(one):
            return len(one) >= len(other) and one[1:].endswith(other[1:])
        return one.endswith(other[1:])
    return one == other


def specificity(host: str) -> tuple[bool, int, str]:
    """Sort key, most specific first: concrete before wildcard, long before short, then by the alphabet."""
    return is_wildcard(host), -len(host), host


def intersection(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """The narrower name of every pair that overlaps, in the order of `one`, each once."""
    others = list(other)
    found: dict[str, None] = {}
    for left in one:
        for right in others:
            if subset_of(left, right):
                found.setdefault(left)
            elif subset_of(right, left):
                found.setdefault(right)
    return list(found)


def for_namespace(hosts: Iterable[str], namespace: str) -> list[str]:
    """The names of `[ns/]name` that a resource of this namespace may use; `*/` and no prefix admit everyone."""
    split = (host.rpartition("/") for host in hosts)
    return [name for owner, _, name in split if owner in ("", "*", namespace)]


def full_name(host: str, namespace: str, domain: str = DOMAIN) -> str:
    """A short name means a Service in the namespace of the rule that says it; anything with a dot stays as it is."""
    if "." in host or not host or is_wildcard(host) or ":" in host:
        return host
    suffix = f"svc.{domain}" if domain else ""
    return ".".join(part for part in (host, namespace, suffix) if part)


def service_host(name: str, namespace: str, domain: str = DOMAIN) -> str:
    return f"{name}.{namespace}.svc.{domain}"


def most_specific(host: str, candidates: Iterable[str]) -> str | None:
    """The candidate that fits `host` best; a wildcard `host` fits only what covers all of it."""
    fitting = [candidate for candidate in candidates if subset_of(host, candidate)]
    return min(fitting, key=specificity, default=None)


class HostIndex(Generic[T]):
    """Values by host name, exact or wildcard, looked up by the most specific name that fits."""

    def __init__(self, values: Mapping[str, T]) -> None:
        self.exact = {host: value for host, value in values.items() if not is_wildcard(host)}
        wildcards = sorted((host for host in values if is_wildcard(host)), key=specificity)
        self.wildcards = {host: values[host] for host in wildcards}

    def get(self, host: str) -> T | None:
        if host in self.exact:
            return self.exact[host]
        return next((value for pattern, value in self.wildcards.items() if subset_of(host, pattern)), None)

    def __bool__(self) -> bool:
        return bool(self.exact or self.wildcards)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def bracketed(host: str) -> str:
    """IPv6 addresses stand in brackets where a port may follow."""
    return f"[{host}]" if ":" in host and is_address(host) else host


def alternative_names(host: str, proxy_domain: str) -> list[str]:
    """The shorter names by which a proxy in `proxy_domain` (`NS.svc.cluster.local`) may call `host`."""
    absolute = [] if is_address(host) else [f"{host}."]
    if ".svc." in proxy_domain:
        return absolute + _kubernetes_names(host, proxy_domain)
    return absolute + _shared_suffix_names(host, proxy_domain)


def _kubernetes_names(host: str, proxy_domain: str) -> list[str]:
    namespace, _, suffix = proxy_domain.partition(".svc.")
    before, service, _ = host.partition(".svc.")
    if not host.endswith(f".svc.{suffix}") or not service or "." not in before:
        return []
    name, _, owner = before.partition(".")
    return [*([name] if owner == namespace else []), f"{before}.svc", before]


def _shared_suffix_names(host: str, proxy_domain: str) -> list[str]:
    """`foo.local.campus.net` from `remote.campus.net` is also `foo.local` and `foo.local.campus`."""
    parts, others = host.split("."), proxy_domain.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) and parts[-1 - shared] == others[-1 - shared]:
        shared += 1
    if not shared:
        return []
    unique = parts[: len(parts) - shared]
    names = [".".join(unique)]
    if len(unique) == 2:
        names.append(".".join([*unique, parts[len(parts) - shared]]))
    return names


def service_domains(
    hosts: Iterable[str], addresses: Iterable[str], proxy_domain: str, headless: bool = False
) -> list[str]:
    """All `Host` headers, without port, that lead to a service known under `hosts` (its own name and its aliases)."""
    names = [name for host in hosts for name in (host, *alternative_names(host, proxy_domain))]
    if headless:
        names += [f"*.{name}" for name in names]
    return list(dict.fromkeys(bracketed(name) for name in (*names, *addresses)))
