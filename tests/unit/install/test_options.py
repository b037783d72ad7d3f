from __future__ import annotations

import pytest

from mizzen.install.options import InvalidOption, Options, read_options


def enabled(options: Options) -> dict[str, bool]:
    components = options.components
    named = {one.name: one.enabled for one in (*components.ingress_gateways, *components.egress_gateways)}
    return {"pilot": components.pilot.enabled, **named}


@pytest.mark.parametrize(
    ("profile", "pilot", "ingress", "egress"),
    [
        ("default", True, True, False),
        ("demo", True, True, True),
        ("minimal", True, False, False),
        ("empty", False, False, False),
    ],
)
def test_profiles(profile: str, pilot: bool, ingress: bool, egress: bool) -> None:
    found = enabled(read_options([f"profile={profile}"]))
    assert found == {"pilot": pilot, "istio-ingressgateway": ingress, "istio-egressgateway": egress}


def test_settings_win_over_files_and_those_over_the_profile() -> None:
    text = "kind: IstioOperator\nspec: {profile: demo, meshConfig: {accessLogFile: /tmp/log, enableTracing: false}}"
    options = read_options(["meshConfig.accessLogFile=/dev/stderr"], [text])
    assert options.mesh_config == {"accessLogFile": "/dev/stderr", "enableTracing": False}
    assert options.components.pilot.enabled


@pytest.mark.parametrize(
    "path",
    ["components.egressGateways[0].enabled", "spec.components.egressGateways.[name:istio-egressgateway].enabled"],
)
def test_list_items_by_place_and_by_name(path: str) -> None:
    assert not enabled(read_options(["profile=demo", f"{path}=false"]))["istio-egressgateway"]


def test_keys_with_dots_are_escaped_and_values_are_yaml() -> None:
    options = read_options(
        [r"values.gateways.istio-ingressgateway.serviceAnnotations.a\.b/c=x", "values.pilot.replicaCount=2"]
    )
    assert options.values.gateways.ingress.service_annotations == {"a.b/c": "x"}
    assert options.values.pilot.replica_count == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("profile=dmeo", "did you mean 'demo'"),
        ("profile=ambient", "is not served"),
        ("meshConfig.accesLogFile=/dev/stdout", "accessLogFile"),
        ("meshConfig.connectTimeout=soon", "duration"),
        ("values.global.proxy.privilege=true", "privileged"),
        ("components.cni.enabled=true", "components.cni"),
        ("revision=canary", "revision"),
        ("profile", "PATH=VALUE"),
        ("components.egressGateways[7].enabled=true", "not the next one"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(setting: str, says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        read_options([setting])
