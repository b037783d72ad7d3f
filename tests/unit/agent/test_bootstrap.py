import json
from dataclasses import replace

import pytest

from mizzen.agent.bootstrap import bootstrap, istiod_roots, node_metadata
from mizzen.agent.settings import read_settings

INJECTED = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.244.0.5",
    "SERVICE_ACCOUNT": "web",
    "CA_ADDR": "istiod.istio-system.svc:15012",
    "ISTIO_META_POD_PORTS": '[{"containerPort":9080}]',
    "ISTIO_META_APP_CONTAINERS": "web",
    "ISTIO_META_WORKLOAD_NAME": "web",
    "ISTIO_META_OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/web",
    "ISTIO_METAJSON_EXTRA": '{"a": 1}',
}


def settings(**environment):
    return read_settings("sidecar", {**INJECTED, **environment}, labels={"app": "web"}, annotations={"x": "y"})


@pytest.fixture(scope="module")
def document():
    return bootstrap(settings())


def cluster(document, name):
    (found,) = (one for one in document["static_resources"]["clusters"] if one["name"] == name)
    return found


def test_it_is_plain_json(document):
    assert json.loads(json.dumps(document)) == document


def test_istiod_learns_who_the_pod_is():
    metadata = node_metadata(settings())
    assert metadata == {
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "SERVICE_ACCOUNT": "web",
        "INSTANCE_IPS": "10.244.0.5",
        "LABELS": {"app": "web"},
        "ANNOTATIONS": {"x": "y"},
        "POD_PORTS": '[{"containerPort":9080}]',
        "APP_CONTAINERS": "web",
        "WORKLOAD_NAME": "web",
        "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/web",
        "EXTRA": {"a": 1},
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": "cluster.local",
        "INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_VERSION": metadata["ISTIO_VERSION"],
        "ENVOY_STATUS_PORT": 15021,
        "ENVOY_PROMETHEUS_PORT": 15090,
        "PILOT_SAN": ["istiod.istio-system.svc"],
        "PROXY_CONFIG": {},
    }


def test_envoy_dials_istiods_mutual_tls_port_by_its_full_name(document):
    xds = cluster(document, "xds-grpc")
    address = xds["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "istiod.istio-system.svc.cluster.local.", "port_value": 15011}
    tls = xds["transport_socket"]["typed_config"]
    assert tls["sni"] == "istiod.istio-system.svc"
    assert set(tls["common_tls_context"]["tls_params"].values()) == {"TLSv1_3"}


def test_nothing_gives_up_waiting_and_retries_are_quick_where_envoy_reads_them(document):
    ads = document["dynamic_resources"]["ads_config"]["grpc_services"][0]
    assert ads["envoy_grpc"]["retry_policy"]["retry_back_off"]["max_interval"] == "0.5s"
    for config in ("cds_config", "lds_config"):
        assert document["dynamic_resources"][config]["initial_fetch_timeout"] == "0s"
    tls = cluster(document, "xds-grpc")["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["tls_certificate_sds_secret_configs"][0]["sds_config"]["initial_fetch_timeout"] == "0s"


def test_health_and_metrics_listen_for_everyone_and_admin_only_here(document):
    listeners = {
        listener["address"]["socket_address"]["port_value"]: listener["address"]["socket_address"]["address"]
        for listener in document["static_resources"]["listeners"]
    }
    assert listeners == {15021: "0.0.0.0", 15090: "0.0.0.0"}
    assert document["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 15000}


def test_the_mark_is_set_only_where_there_is_no_uid(document):
    assert "cluster_manager" not in document
    marked = bootstrap(settings(MIZZEN_CAPTURE="mark"))
    (option,) = marked["cluster_manager"]["upstream_bind_config"]["socket_options"]
    assert (option["level"], option["name"], option["int_value"]) == (1, 36, 1337)


def test_users_add_to_the_stats_that_are_kept():
    asked = '{"proxyStatsMatcher": {"inclusionPrefixes": ["mine"], "inclusionRegexps": ["a.*"]}}'
    patterns = bootstrap(settings(PROXY_CONFIG=asked))["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert {"prefix": "mine"} in patterns
    assert {"safe_regex": {"regex": "a.*"}} in patterns


def test_with_somebody_elses_secrets_istiod_is_checked_against_the_mounted_roots():
    """Their roots are of peers; the file that Envoy is led to follows the mounted folder."""
    own, others = settings(), replace(settings(), external_sds=True)
    common = cluster(bootstrap(others), "xds-grpc")["transport_socket"]["typed_config"]["common_tls_context"]
    assert common["tls_certificate_sds_secret_configs"][0]["name"] == "default"
    trusted = common["combined_validation_context"]["validation_context_sds_secret_config"]
    assert trusted["sds_config"]["path_config_source"]["path"] == own.paths.istiod_roots
    (secret,) = istiod_roots(others)["resources"]
    assert trusted["name"] == secret["name"] != "ROOTCA"
    assert secret["validation_context"]["trusted_ca"]["filename"] == own.paths.root_certificate
    assert secret["validation_context"]["watched_directory"]["path"] == "/var/run/secrets/istio"
    assert (node_metadata(own).get("EXTERNAL_SECRETS"), node_metadata(others)["EXTERNAL_SECRETS"]) == (None, True)
