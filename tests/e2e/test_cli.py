"""Commands that need a cluster: what they print, where it goes, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from .mesh import Mesh, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]


@pytest.fixture(scope="module")
def deployed(mesh: Mesh) -> Mesh:
    mesh.kubectl("create", "namespace", "plain")
    folder = mesh.mizzen("samples", "path").strip()
    mesh.kubectl("apply", "-f", f"{folder}/echo")
    mesh.kubectl("apply", "-n", "plain", "-f", f"{folder}/sleep/sleep.yaml")
    mesh.ready()
    mesh.ready(namespace="plain")
    eventually(mesh.in_sync)
    return mesh


def test_proxy_status_in_istios_columns(deployed: Mesh) -> None:
    header, *rows = deployed.mizzen("ps").splitlines()
    assert header.split() == ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED", "TYPES"]
    assert {row.split()[0].rpartition(".")[2] for row in rows} == {"default", "istio-system"}
    assert deployed.mizzen("ps", "-v", "1").split()[:4] == ["NAME", "CLUSTER", "CDS", "ECDS"]
    assert "no proxy 'nope'" in deployed.mizzen("ps", "nope", code=1)


@pytest.mark.parametrize(
    ("words", "header"),
    [
        (("pc", "c"), "SERVICE FQDN"),
        (("pc", "listeners"), "ADDRESSES"),
        (("proxy-config", "routes"), "NAME"),
        (("pc", "ep"), "ENDPOINT"),
    ],
)
def test_proxy_config_as_table_and_in_envoys_words(deployed: Mesh, words: tuple[str, ...], header: str) -> None:
    proxy = "deployment/echo-v1"
    assert deployed.mizzen(*words, proxy).startswith(header)
    messages = json.loads(deployed.mizzen(*words, proxy, "-o", "json"))
    assert any("name" in one for one in messages)


def test_a_pod_without_sidecar_and_one_that_is_elsewhere(deployed: Mesh) -> None:
    assert "has no sidecar" in deployed.mizzen("pc", "routes", "deploy/sleep.plain", code=1)
    assert "did you mean sleep-" in deployed.mizzen("pc", "routes", "sleep", code=1)


def test_version_tells_of_client_control_plane_and_proxies(deployed: Mesh) -> None:
    versions = json.loads(deployed.mizzen("version", "-o", "json"))
    assert versions["meshVersion"] == [versions["clientVersion"]]
    assert sum(versions["dataPlaneVersion"].values()) == 4


def test_status_names_a_pod_that_crashes_and_why(deployed: Mesh) -> None:
    assert deployed.mizzen("status").startswith("cluster")
    deployed.kubectl("run", "crash", "-n", "plain", "--image=mizzen/echo:1", "--command", "--", "false")
    told = eventually(
        lambda: subprocess.run(
            [*deployed.words, "status"], env=deployed.environment, text=True, stdout=subprocess.PIPE
        ).stdout.partition("✘ pod/crash.plain: ")[2]
    )
    deployed.kubectl("delete", "pod", "crash", "-n", "plain")
    assert "crash" in told


def test_an_installation_without_rights_says_so(deployed: Mesh) -> None:
    deployed.kubectl("create", "serviceaccount", "viewer")
    token = deployed.kubectl("create", "token", "viewer").strip()
    own = deployed.state.parent / "viewer"
    own.write_text(deployed.kubectl("config", "view", "--raw"))
    for change in (("set-credentials", "viewer", f"--token={token}"), ("set-context", "--current", "--user=viewer")):
        deployed.kubectl("--kubeconfig", str(own), "config", *change)
    answer = deployed.mizzen("install", "-y", "-c", str(own), code=1)
    assert "forbidden" in answer
    assert "cluster-admin" in answer


def test_a_dry_run_changes_nothing(deployed: Mesh) -> None:
    before = deployed.get("deployments", "", "istio-system")["items"]
    deployed.mizzen("install", "--dry-run", "--set", "values.pilot.replicaCount=2")
    deployed.mizzen("uninstall", "--purge", "--dry-run")
    after = deployed.get("deployments", "", "istio-system")["items"]
    assert [one["metadata"]["generation"] for one in before] == [one["metadata"]["generation"] for one in after]


def test_the_dashboard_ends_quietly_on_ctrl_c(deployed: Mesh) -> None:
    words = [*deployed.words, "dashboard", "envoy", "deploy/echo-v1", "--browser=false"]
    with subprocess.Popen(
        words,
        env=deployed.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever started the tests in the background had it ignored, and what is ignored stays so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout and process.stderr
            assert process.stdout.readline().startswith("http://localhost:")
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(20) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_second_start_waits_for_pods_of_this_life(deployed: Mesh) -> None:
    deployed.mizzen("down")
    start = time.monotonic()
    deployed.mizzen("up")
    assert time.monotonic() - start < 60
    pods = deployed.get("pods", "", "istio-system")["items"]
    ready = [one["status"] for pod in pods for one in pod["status"]["conditions"] if one["type"] == "Ready"]
    assert ready == ["True"] * 3
