"""A cluster's entry in the user's kubeconfig: added without touching the others, and taken out again.

The functions on documents are pure; `merge_into` and `remove_from` read and replace the file in one step, 0600, under
the lock file that kubectl uses too. https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

JSON: TypeAlias = dict[str, Any]

_SECTIONS = ("clusters", "contexts", "users")
_MARK = "mizzen"
_LOCK_LIMIT = 5.0


class KubeconfigError(Exception):
    """The user's kubeconfig cannot be read or must not be changed; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One context with its cluster and user; all three have the same `name`."""

    name: str
    cluster: JSON
    user: JSON


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's dates: an unquoted token must come out as it went in."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def user_path() -> Path:
    """The file that kubectl writes to: the first of $KUBECONFIG, else ~/.kube/config."""
    listed = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(listed[0]) if listed else Path.home() / ".kube" / "config"


def merged(document: JSON, entry: Entry) -> JSON:
    """`document` with the entry, made current. Raises KubeconfigError if someone else's context has its name."""
    for existing in document.get("clusters") or ():
        if existing.get("name") == entry.name and not _is_ours(existing):
            raise KubeconfigError(
                f"the kubeconfig has a cluster {entry.name!r} that mizzen did not make; rename it "
                f"(kubectl config rename-context) or start the cluster with another --name"
            )
    mark = [{"name": _MARK, "extension": {"provider": "mizzen"}}]
    context = {"cluster": entry.name, "user": entry.name, "namespace": "default"}
    wanted = {
        "clusters": {"name": entry.name, "cluster": {**entry.cluster, "extensions": mark}},
        "contexts": {"name": entry.name, "context": context},
        "users": {"name": entry.name, "user": entry.user},
    }
    result = {"apiVersion": "v1", "kind": "Config", "preferences": {}, **document}
    for section in _SECTIONS:
        result[section] = [*_others(document, section, entry.name), wanted[section]]
    return {**result, "current-context": entry.name}


def without(document: JSON, name: str, previous: str = "") -> JSON:
    """`document` without the entry of that name, if it is ours. Was it current, `previous` is again, if it exists."""
    if not any(each.get("name") == name and _is_ours(each) for each in document.get("clusters") or ()):
        return document
    result = {**document, **{section: _others(document, section, name) for section in _SECTIONS}}
    if result.get("current-context") == name:
        names = {context.get("name") for context in result["contexts"]}
        result["current-context"] = previous if previous in names else ""
    return result


def _others(document: JSON, section: str, name: str) -> list[JSON]:
    return [each for each in document.get(section) or () if each.get("name") != name]


def _is_ours(cluster: JSON) -> bool:
    extensions = (cluster.get("cluster") or {}).get("extensions") or ()
    return any(each.get("name") == _MARK for each in extensions)


def entry_of(text: str, name: str) -> Entry:
    """The entry of a kubeconfig that has exactly one cluster and one user."""
    document = yaml.load(text, _Loader)  # noqa: S506 - derived from SafeLoader
    return Entry(name, document["clusters"][0]["cluster"], document["users"][0]["user"])


def merge_into(path: Path, entry: Entry) -> str:
    """Add the entry to the file and make it current. Returns the context that was current before, or ""."""
    with _locked(path):
        document = _read(path)
        _replace(path, merged(document, entry))
    previous: str = document.get("current-context") or ""
    return "" if previous == entry.name else previous


def remove_from(path: Path, name: str, previous: str = "") -> bool:
    """Take the entry out of the file. False if it was not there."""
    if not path.exists():
        return False
    with _locked(path):
        document = _read(path)
        fresh = without(document, name, previous)
        if fresh is document:
            return False
        _replace(path, fresh)
    return True


def _read(path: Path) -> JSON:
    if not path.exists():
        return {}
    try:
        document = yaml.load(path.read_text(), _Loader) or {}  # noqa: S506 - derived from SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path} is not a kubeconfig")
    return document


def _replace(path: Path, document: JSON) -> None:
    """A link to a kubeconfig stays a link: what it points to is replaced."""
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file, sort_keys=False, default_flow_style=False)
    fresh.replace(target)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """client-go's lock: a file beside the kubeconfig that only one can create."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    deadline = time.monotonic() + _LOCK_LIMIT
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0))
            break
        except FileExistsError as error:
            if time.monotonic() > deadline:
                raise KubeconfigError(f"{lock} is held by another program; remove it if none is running") from error
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
