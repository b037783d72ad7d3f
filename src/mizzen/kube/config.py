"""Where the API server is and who we are there: kubeconfig files and a Pod's service account.

Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
Exec plugins: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
import yaml

JSON: TypeAlias = dict[str, Any]
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_MAX_AGE = 10.0
"""Seconds after which a token file is read again; kubelets rotate it long before it expires."""
EXEC_TIMEOUT = 60.0


class ConfigError(Exception):
    """The kubeconfig is missing, unreadable, or asks for something that is not supported."""


class Credentials(Protocol):
    """What is added to each request to say who we are."""

    async def headers(self) -> Mapping[str, str]: ...

    def refused(self) -> None:
        """The server answered 401: forget what was kept, ask again next time."""


@dataclass(frozen=True, slots=True)
class FixedHeaders:
    values: Mapping[str, str] = field(default_factory=dict)

    async def headers(self) -> Mapping[str, str]:
        return self.values

    def refused(self) -> None:
        return None


class TokenFile:
    """A bearer token in a file that someone rotates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at = float("-inf")

    async def headers(self) -> Mapping[str, str]:
        if time.monotonic() - self._read_at > TOKEN_MAX_AGE:
            self._token = self._path.read_text().strip()
            self._read_at = time.monotonic()
        return {"Authorization": f"Bearer {self._token}"}

    def refused(self) -> None:
        self._read_at = float("-inf")


class ExecPlugin:
    """A command that prints an ExecCredential; run again when its token has expired or was refused."""

    def __init__(self, spec: JSON, cluster: JSON) -> None:
        self._spec = spec
        self._cluster = cluster
        self._status: JSON = {}
        self._expires_at = float("-inf")

    async def headers(self) -> Mapping[str, str]:
        if time.time() >= self._expires_at:
            self._status = await self._run()
            self._expires_at = _expiry(self._status)
        token = self._status.get("token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def refused(self) -> None:
        self._expires_at = float("-inf")

    async def _run(self) -> JSON:
        command = [self._spec["command"], *(self._spec.get("args") or ())]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=self._environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            hint = self._spec.get("installHint", "")
            raise ConfigError(f"cannot run the credential plugin {command[0]!r}: {error}. {hint}".rstrip()) from error
        try:
            out, err = await asyncio.wait_for(process.communicate(), EXEC_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ConfigError(f"the credential plugin {command[0]!r} gave no answer in {EXEC_TIMEOUT:g} s") from None
        if process.returncode:
            raise ConfigError(f"the credential plugin {command[0]!r} failed: {err.decode(errors='replace').strip()}")
        return self._credential(out)

    def _credential(self, out: bytes) -> JSON:
        try:
            status: JSON = msgspec.json.decode(out)["status"]
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._spec['command']!r} printed no ExecCredential: {error!r}") from error
        if "token" not in status:
            raise ConfigError(
                f"{self._spec['command']!r} gave no token; client certificates of plugins are not supported"
            )
        return status

    def _environment(self) -> dict[str, str]:
        asked = {
            "apiVersion": self._spec.get("apiVersion", "client.authentication.k8s.io/v1"),
            "kind": "ExecCredential",
            "spec": {"interactive": False}
            | ({"cluster": self._cluster} if self._spec.get("provideClusterInfo") else {}),
        }
        extra = {pair["name"]: pair["value"] for pair in self._spec.get("env") or ()}
        return {**os.environ, **extra, "KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()}


def _expiry(status: JSON) -> float:
    text = status.get("expirationTimestamp")
    return datetime.fromisoformat(text).timestamp() if text else float("inf")


@dataclass(frozen=True, slots=True)
class Target:
    """One API server and one identity."""

    server: str
    """`https://host:port`, without a slash at the end."""
    tls: ssl.SSLContext | None = None
    credentials: Credentials = field(default_factory=FixedHeaders)
    namespace: str = "default"
    server_name: str | None = None
    """The name to check the server's certificate against, when it is not the host of `server`."""
    proxy: str | None = None
    compression: bool = True
    """Whether to ask for compressed answers, which are quicker to come from afar and slower from nearby."""


def kubeconfig_paths(path: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files to merge: the one given, else those of $KUBECONFIG, else ~/.kube/config."""
    if path is not None:
        return [Path(path)]
    if listed := [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        return [Path(part) for part in listed]
    return [Path.home() / ".kube" / "config"]


def from_kubeconfig(path: str | os.PathLike[str] | None = None, context: str | None = None) -> Target:
    """The target of a context (default: the current one). Raises ConfigError."""
    merged = _merge(kubeconfig_paths(path))
    name = context or merged["current-context"]
    if not name:
        raise ConfigError("no current context is set; choose one with --context or `kubectl config use-context NAME`")
    chosen = _named(merged, "contexts", name)
    cluster = _named(merged, "clusters", chosen.get("cluster", ""))
    user = _named(merged, "users", chosen["user"]) if chosen.get("user") else {}
    return Target(
        server=str(cluster["server"]).rstrip("/"),
        tls=_tls(cluster, user) if str(cluster["server"]).startswith("https") else None,
        credentials=_credentials(user, cluster),
        namespace=chosen.get("namespace") or "default",
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        compression=not cluster.get("disable-compression"),
    )


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Target:
    """The target that a Pod's service account leads to. Raises ConfigError outside of a Pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise ConfigError("this is not a Pod with a service account: no KUBERNETES_SERVICE_HOST or no token")
    namespace = folder / "namespace"
    return Target(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=ssl.create_default_context(cafile=str(folder / "ca.crt")),
        credentials=TokenFile(folder / "token"),
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
    )


def _merge(paths: Sequence[Path]) -> JSON:
    """kubectl's rule: of several files, the first that names a thing wins."""
    present = [path for path in paths if path.exists()]
    if not present:
        raise ConfigError(f"no kubeconfig at {', '.join(map(str, paths))}")
    merged: JSON = {"current-context": "", "contexts": {}, "clusters": {}, "users": {}}
    for path in present:
        document = _load(path)
        merged["current-context"] = merged["current-context"] or document.get("current-context") or ""
        for section, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            for entry in document.get(section) or ():
                merged[section].setdefault(entry["name"], _with_paths(entry.get(inner) or {}, path.parent))
    return merged


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: as safe, and ten times as fast."""


def _load(path: Path) -> JSON:
    try:
        document = yaml.load(path.read_text(), _Loader)  # noqa: S506 - safe with either
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a kubeconfig")
    return document


_PATH_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _with_paths(entry: JSON, folder: Path) -> JSON:
    """Relative paths in a kubeconfig are relative to that file."""
    return entry | {key: str(folder / entry[key]) for key in _PATH_KEYS if entry.get(key)}


def _named(merged: JSON, section: str, name: str) -> JSON:
    try:
        found: JSON = merged[section][name]
    except KeyError:
        known = ", ".join(sorted(merged[section])) or "none"
        raise ConfigError(f"the kubeconfig has no {section[:-1]} {name!r} (it has: {known})") from None
    return found


def _credentials(user: JSON, cluster: JSON) -> Credentials:
    if exec_spec := user.get("exec"):
        return ExecPlugin(exec_spec, _exec_cluster(cluster))
    if token_file := user.get("tokenFile"):
        return TokenFile(Path(token_file))
    if "auth-provider" in user:
        raise ConfigError("the kubeconfig uses auth-provider, which Kubernetes removed; use an exec plugin")
    return FixedHeaders(_authorization(user) | _impersonation(user))


def _authorization(user: JSON) -> dict[str, str]:
    if token := user.get("token"):
        return {"Authorization": f"Bearer {token}"}
    if "username" in user:
        pair = f"{user['username']}:{user.get('password', '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def _impersonation(user: JSON) -> dict[str, str]:
    if user.get("as-groups") or user.get("as-user-extra"):
        raise ConfigError("the kubeconfig's as-groups and as-user-extra are not supported; `as` is")
    return {"Impersonate-User": user["as"]} if user.get("as") else {}


def _exec_cluster(cluster: JSON) -> JSON:
    known = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data")
    return {key: cluster[key] for key in known if key in cluster}


def _tls(cluster: JSON, user: JSON) -> ssl.SSLContext:
    authority = _inline_or_file(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _inline_or_file(user, "client-certificate"), _inline_or_file(user, "client-key")
    if certificate and key:
        _load_pair(context, certificate, key)
    return context


def _inline_or_file(entry: JSON, key: str) -> bytes | None:
    try:
        if data := entry.get(f"{key}-data"):
            return base64.b64decode(data, validate=True)
        return Path(entry[key]).read_bytes() if entry.get(key) else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {key} of the kubeconfig: {error}") from error


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes key pairs from files only; this one is private and gone at once."""
    with tempfile.NamedTemporaryFile(prefix="mizzen-") as pair:
        pair.write(certificate + b"\n" + key)
        pair.flush()
        try:
            context.load_cert_chain(pair.name)
        except ssl.SSLError as error:
            raise ConfigError(f"the client certificate and key of the kubeconfig do not work: {error}") from error
