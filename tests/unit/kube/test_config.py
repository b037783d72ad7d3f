"""Kubeconfigs as kubectl reads them."""

from __future__ import annotations

import base64
import stat
import sys
from pathlib import Path

import pytest
import yaml

from mizzen.kube import config


def kubeconfig(folder: Path, name: str = "config", **user: object) -> Path:
    path = folder / name
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_token_user(tmp_path: Path) -> None:
    target = config.from_kubeconfig(kubeconfig(tmp_path, token="t0"))
    assert (target.server, target.namespace) == ("http://127.0.0.1:1", "shop")
    assert await target.credentials.headers() == {"Authorization": "Bearer t0"}


async def test_basic_user_who_impersonates(tmp_path: Path) -> None:
    target = config.from_kubeconfig(kubeconfig(tmp_path, username="a", password="b", **{"as": "jane"}))
    basic = "Basic " + base64.b64encode(b"a:b").decode()
    assert await target.credentials.headers() == {"Authorization": basic, "Impersonate-User": "jane"}


async def test_token_file_beside_the_kubeconfig_is_read_again_when_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    credentials = config.from_kubeconfig(kubeconfig(tmp_path, tokenFile="token")).credentials
    assert await credentials.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert await credentials.headers() == {"Authorization": "Bearer one"}
    credentials.refused()
    assert await credentials.headers() == {"Authorization": "Bearer two"}


async def test_exec_plugin_runs_once_until_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import json, os, pathlib\n"
        "runs = pathlib.Path(os.environ['RUNS']); runs.write_text(runs.read_text() + 'x' if runs.exists() else 'x')\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        "print(json.dumps({'status': {'token': 't' + str(len(runs.read_text()))}}))\n"
    )
    env = [{"name": "RUNS", "value": str(tmp_path / "runs")}]
    spec = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin)],
        "env": env,
    }
    credentials = config.from_kubeconfig(kubeconfig(tmp_path, exec=spec)).credentials
    assert await credentials.headers() == await credentials.headers() == {"Authorization": "Bearer t1"}
    credentials.refused()
    assert await credentials.headers() == {"Authorization": "Bearer t2"}


async def test_exec_plugin_that_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    spec = {"command": str(tmp_path / "nope"), "installHint": "Install nope."}
    credentials = config.from_kubeconfig(kubeconfig(tmp_path, exec=spec)).credentials
    with pytest.raises(config.ConfigError, match=r"nope.*Install nope\."):
        await credentials.headers()


def test_first_of_several_files_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig(tmp_path, "first", token="x")
    second = tmp_path / "second"
    second.write_text(
        yaml.safe_dump(
            {
                "current-context": "other",
                "contexts": [{"name": "other", "context": {"cluster": "k2", "user": "u"}}],
                "clusters": [
                    {"name": "k", "cluster": {"server": "http://wrong"}},
                    {"name": "k2", "cluster": {"server": "http://second"}},
                ],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}:{tmp_path / 'absent'}")
    assert config.from_kubeconfig().server == "http://127.0.0.1:1"
    assert config.from_kubeconfig(context="other").server == "http://second"


@pytest.mark.parametrize(
    ("user", "complaint"),
    [({"auth-provider": {"name": "gcp"}}, "auth-provider"), ({"as": "a", "as-groups": ["g"]}, "as-groups")],
)
def test_unsupported_is_refused(tmp_path: Path, user: dict[str, object], complaint: str) -> None:
    with pytest.raises(config.ConfigError, match=complaint):
        config.from_kubeconfig(kubeconfig(tmp_path, **user))


def test_unknown_context_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"no context 'prod' \(it has: c\)"):
        config.from_kubeconfig(kubeconfig(tmp_path), "prod")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="no kubeconfig at"):
        config.from_kubeconfig(tmp_path / "absent")


def test_in_cluster_outside_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(config.ConfigError, match="not a Pod"):
        config.in_cluster(tmp_path)


async def test_in_cluster_follows_the_rotated_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, _ = _self_signed()
    for name, content in (("token", b"one"), ("namespace", b"shop\n"), ("ca.crt", certificate)):
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    target = config.in_cluster(tmp_path)
    assert (target.server, target.namespace) == ("https://[fd00::1]:443", "shop")
    assert await target.credentials.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two")
    monkeypatch.setattr(config, "TOKEN_MAX_AGE", -1.0)
    assert await target.credentials.headers() == {"Authorization": "Bearer two"}


def test_client_certificate_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _self_signed()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "kc"
    encoded = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [
            {
                "name": "k",
                "cluster": {
                    "server": "https://x",
                    "certificate-authority-data": base64.b64encode(certificate).decode(),
                },
            }
        ],
        "users": [{"name": "u", "user": encoded}],
    }
    path.write_text(yaml.safe_dump(document))
    target = config.from_kubeconfig(path)
    assert target.tls is not None and len(target.tls.get_ca_certs()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["kc"]
    assert stat.S_ISREG(path.stat().st_mode)


def _self_signed() -> tuple[bytes, bytes]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
