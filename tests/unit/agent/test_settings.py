from datetime import timedelta

import pytest

from mizzen.agent.envoy import envoy_arguments
from mizzen.agent.settings import SettingsError, downward_pairs, read_settings
from mizzen.ca.authority import KeyKind

INJECTED = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.244.0.5",
    "SERVICE_ACCOUNT": "web",
    "CA_ADDR": "istiod.istio-system.svc:15012",
}


def settings(proxy_type="sidecar", **environment):
    return read_settings(proxy_type, {**INJECTED, **environment}, domain="shop.svc.cluster.local")


def test_the_node_id_is_istios():
    assert settings().node_id == "sidecar~10.244.0.5~web-1.shop~shop.svc.cluster.local"
    assert settings("router").node_id.startswith("router~")


def test_the_identity_is_the_service_account():
    assert settings(TRUST_DOMAIN="mesh.example").identity == "spiffe://mesh.example/ns/shop/sa/web"


@pytest.mark.parametrize("missing", ["POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "SERVICE_ACCOUNT"])
def test_what_the_injector_always_sets_must_be_there(missing):
    with pytest.raises(SettingsError, match=missing):
        settings(**{missing: ""})


def test_documents_must_be_json_objects():
    with pytest.raises(SettingsError, match="PROXY_CONFIG"):
        settings(PROXY_CONFIG="[1]")


def test_who_signs_need_not_be_who_configures():
    ours = settings(PROXY_CONFIG='{"discoveryAddress": "istiod.mesh.svc:15012"}', CA_ADDR="")
    assert (ours.istiod, ours.istiod_host, ours.istiod_port) == (
        "istiod.mesh.svc",
        "istiod.mesh.svc.cluster.local.",
        15011,
    )
    assert (ours.ca, ours.ca_target) == ("istiod.mesh.svc", "istiod.mesh.svc.cluster.local.:15012")
    apart = settings(PROXY_CONFIG='{"discoveryAddress": "mesh.example:31511"}', CA_ADDR="ca.example:443")
    assert (apart.istiod_host, apart.istiod_port, apart.ca, apart.ca_target) == (
        "mesh.example",
        31511,
        "ca.example",
        "ca.example:443",
    )


@pytest.mark.parametrize("address", ["istiod", "istiod:", ":15012", "istiod:http", "istiod:70000"])
def test_addresses_have_a_port(address):
    with pytest.raises(SettingsError, match="CA_ADDR is"):
        settings(CA_ADDR=address)
    with pytest.raises(SettingsError, match="discoveryAddress"):
        settings(PROXY_CONFIG=f'{{"discoveryAddress": "{address}"}}')


@pytest.mark.parametrize(
    ("environment", "workers"),
    [
        ({}, None),
        ({"ISTIO_CPU_LIMIT": "2"}, 2),
        ({"ISTIO_CPU_LIMIT": "2", "PROXY_CONFIG": '{"concurrency": 4}'}, 4),
        ({"ISTIO_CPU_LIMIT": "2", "PROXY_CONFIG": '{"concurrency": 0}'}, None),
    ],
)
def test_workers_come_from_the_proxy_config_or_the_cpu_limit(environment, workers):
    arguments = envoy_arguments(settings(**environment))
    assert ("--concurrency" in arguments) == (workers is not None)
    if workers:
        assert arguments[arguments.index("--concurrency") + 1] == str(workers)


def test_the_drain_time_is_the_proxy_configs():
    arguments = envoy_arguments(settings(PROXY_CONFIG='{"drainDuration": "1m5s"}'))
    assert arguments[arguments.index("--drain-time-s") + 1] == "65"


def test_certificates_live_as_long_as_asked():
    assert settings(SECRET_TTL="1h").certificate_validity == timedelta(hours=1)
    with pytest.raises(SettingsError, match="SECRET_TTL"):
        settings(SECRET_TTL="soon")


def test_labels_come_as_the_downward_api_writes_them():
    assert downward_pairs('app="web"\nnote="says \\"hi\\"\\n"\n') == {"app": "web", "note": 'says "hi"\n'}


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, KeyKind("P256")),
        ({"ECC_SIGNATURE_ALGORITHM": "ECDSA", "ECC_CURVE": "P384"}, KeyKind("P384")),
        ({"WORKLOAD_RSA_KEY_SIZE": "4096"}, KeyKind(rsa_bits=4096)),
        ({"WORKLOAD_RSA_KEY_SIZE": "4096", "ECC_SIGNATURE_ALGORITHM": "ECDSA"}, KeyKind("P256")),
    ],
)
def test_keys_are_of_the_kind_that_is_asked_for(environment, kind):
    assert settings(**environment).key == kind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ECC_SIGNATURE_ALGORITHM", "EDDSA"),
        ("ECC_CURVE", "P224"),
        ("WORKLOAD_RSA_KEY_SIZE", "1024"),
        ("WORKLOAD_RSA_KEY_SIZE", "big"),
    ],
)
def test_keys_that_are_weak_or_unknown_are_refused_with_the_variables_name(name, value):
    with pytest.raises(SettingsError, match=name):
        settings(**{name: value})
