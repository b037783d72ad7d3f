from __future__ import annotations

from typing import Any

import kubernetes_validate
import yaml

from mizzen.controlplane.watching import CORE_KINDS, MESH_KINDS
from mizzen.inject import read_settings
from mizzen.install.labels import COMPONENT
from mizzen.install.manifests import manifests, to_yaml
from mizzen.install.options import read_options


def objects(*sets: str) -> dict[str, dict[str, Any]]:
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in manifests(read_options(sets))}


def test_kubernetes_finds_nothing_wrong() -> None:
    everything = objects("profile=default", "components.egressGateways[0].enabled=true")
    for one in everything.values():
        if one["kind"] != "CustomResourceDefinition":  # its schema-of-schemas is tested where CRDs are made
            kubernetes_validate.validate(one, "1.34", strict=True)


def test_everything_but_the_namespace_can_be_found_again() -> None:
    for name, one in objects("profile=demo").items():
        assert (COMPONENT in one["metadata"].get("labels", {})) == (name != "Namespace/istio-system")


def test_the_tutorials_ingress_ports() -> None:
    service = objects("profile=demo")["Service/istio-ingressgateway"]
    ports = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
    assert service["spec"]["type"] == "LoadBalancer"
    assert ports == {
        "status-port": (15021, 15021),
        "http2": (80, 8080),
        "https": (443, 8443),
        "tcp": (31400, 31400),
        "tls": (15443, 15443),
    }


def test_gateways_are_written_out_as_routers() -> None:
    pod = objects("profile=demo")["Deployment/istio-egressgateway"]["spec"]["template"]
    [proxy] = pod["spec"]["containers"]
    assert proxy["args"][:2] == ["proxy", "router"]
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    owner = {one["name"]: one.get("value") for one in proxy["env"]}["ISTIO_META_OWNER"]
    assert owner == "kubernetes://apis/apps/v1/namespaces/istio-system/deployments/istio-egressgateway"


def test_the_injector_reads_what_is_installed() -> None:
    found = objects("profile=demo", "meshConfig.defaultConfig.concurrency=3", "hub=example.org/mesh", "tag=7")
    injector = found["ConfigMap/istio-sidecar-injector"]["data"]
    settings = read_settings(found["ConfigMap/istio"]["data"]["mesh"], injector["values"], injector["config"])
    assert settings.mesh.access_log_file == "/dev/stdout"
    assert settings.proxy_config["concurrency"] == 3
    assert (settings.values.global_.hub, settings.values.global_.tag) == ("example.org/mesh", "7")
    assert settings.values.global_.proxy.resources == {"requests": {"cpu": "10m", "memory": "40Mi"}}
    image = found["Deployment/istiod"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "example.org/mesh/pilot:7"


def test_the_stream_is_yaml_of_the_same_objects() -> None:
    made = manifests(read_options(["profile=minimal"]))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    assert list(yaml.load_all(to_yaml(made), loader)) == made


def test_istiod_may_read_all_that_it_watches() -> None:
    rules = objects("profile=minimal")["ClusterRole/istiod-clusterrole-istio-system"]["rules"]
    for watched in (*CORE_KINDS.values(), *MESH_KINDS.values()):
        allowed = [rule for rule in rules if watched.group in rule["apiGroups"]]
        found = [rule["verbs"] for rule in allowed if {"*", watched.plural} & set(rule["resources"])]
        assert any({"get", "list", "watch"} <= set(verbs) for verbs in found), watched.plural
