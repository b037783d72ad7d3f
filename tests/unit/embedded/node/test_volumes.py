"""Volumes: what is in them, and that readers never see half of it."""

import base64

import pytest

from mizzen.embedded.node import payload, volumes
from mizzen.embedded.node.fields import Capacity, PodAddresses, Unresolved
from mizzen.embedded.node.payload import File, Ingredients

POD = {
    "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"b": "2", "a": "1"}},
    "spec": {"containers": [{"name": "a"}]},
}
OBJECTS = {
    ("ConfigMap", "cm"): {
        "kind": "ConfigMap",
        "data": {"x": "1"},
        "binaryData": {"y": base64.b64encode(b"\0\1").decode()},
    },
    ("Secret", "s"): {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}},
}
OF = Ingredients(
    PodAddresses(("1.1.1.1",), ("2.2.2.2",)),
    Capacity("4", "8Gi"),
    lambda kind, name: OBJECTS.get((kind, name)),
    lambda request: f"token for {request.audience or 'default'}",
)


def test_a_config_map_and_a_secret():
    assert payload.files(POD, {"configMap": {"name": "cm"}}, OF) == {"x": File(b"1"), "y": File(b"\0\1")}
    items = [{"key": "k", "path": "deep/er", "mode": 0o400}]
    assert payload.files(POD, {"secret": {"secretName": "s", "items": items}}, OF) == {"deep/er": File(b"v", 0o400)}


def test_what_is_missing():
    assert payload.files(POD, {"configMap": {"name": "no", "optional": True}}, OF) == {}
    with pytest.raises(Unresolved, match='configmap "no" not found'):
        payload.files(POD, {"configMap": {"name": "no"}}, OF)
    with pytest.raises(Unresolved, match="has no key 'z'"):
        payload.files(POD, {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}, OF)


def test_a_projected_volume():
    sources = [
        {"serviceAccountToken": {"path": "istio-token", "audience": "istio-ca", "expirationSeconds": 43200}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"configMap": {"name": "cm", "items": [{"key": "x", "path": "root.pem"}]}},
    ]
    volume = {"name": "v", "projected": {"sources": sources, "defaultMode": 0o640}}
    assert payload.files(POD, volume, OF) == {
        "istio-token": File(b"token for istio-ca", 0o640),
        "labels": File(b'a="1"\nb="2"', 0o640),
        "root.pem": File(b"1", 0o640),
    }
    assert payload.token_requests([volume]) == [payload.TokenRequest("istio-token", "istio-ca", 43200)]
    spec = {"volumes": [volume], "containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]}
    assert payload.references({"spec": spec}) == {("ConfigMap", "cm"), ("Secret", "s")}


def test_writing_switches_in_one_step(tmp_path):
    assert volumes.write(tmp_path, {"a": File(b"1"), "d/b": File(b"2", 0o600)}, None)
    first = (tmp_path / "..data").readlink()
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "d/b").read_bytes() == b"2"
    assert (tmp_path / "d/b").stat().st_mode & 0o777 == 0o600
    assert not volumes.write(tmp_path, {"a": File(b"1"), "d/b": File(b"2")}, None)
    assert volumes.write(tmp_path, {"a": File(b"3"), "c": File(b"4")}, None)
    assert (tmp_path / "..data").readlink() != first
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_bytes() == b"3"
    assert not (tmp_path / first).exists()


def test_a_volume_may_be_empty(tmp_path):
    assert volumes.write(tmp_path, {}, None)
    assert not volumes.write(tmp_path, {}, None)


def test_no_file_leads_out_of_its_volume(tmp_path):
    with pytest.raises(Unresolved, match="leads out"):
        volumes.write(tmp_path, {"../x": File(b"")}, None)


def test_where_volumes_are(tmp_path):
    folders = volumes.VolumeFolders(tmp_path / "u", tmp_path / "claims", "d", (tmp_path / "shared",))
    (tmp_path / "shared" / "sub").mkdir(parents=True)
    assert folders.source({"name": "e", "emptyDir": {}}) == tmp_path / "u" / "volumes" / "e"
    claim = {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}
    with pytest.raises(Unresolved, match='"data" not found'):
        folders.source(claim)
    folders.bound["data"] = "u1"
    assert folders.source(claim) == tmp_path / "claims" / "d" / "data_u1"
    assert folders.source({"name": "h", "hostPath": {"path": str(tmp_path / "shared/sub")}}) == tmp_path / "shared/sub"
    with pytest.raises(Unresolved, match="MIZZEN_HOST_PATHS"):
        folders.source({"name": "h", "hostPath": {"path": "/etc"}})
    with pytest.raises(Unresolved, match="nfs is not supported"):
        folders.source({"name": "n", "nfs": {"server": "x"}})
    folders.make({"name": "e", "emptyDir": {}}, None)
    assert (tmp_path / "u/volumes/e").stat().st_mode & 0o777 == 0o777
    folders.remove()
    assert not (tmp_path / "u").exists()
