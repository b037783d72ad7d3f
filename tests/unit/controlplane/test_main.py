"""istiod's environment."""

from datetime import timedelta

import pytest

from mizzen.ca.authority import KeyKind
from mizzen.controlplane.authority import DEFAULT_ROOT
from mizzen.controlplane.main import key_refresh, root_settings


def test_a_root_is_as_istios_variables_say() -> None:
    given = {"CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE": "4096", "CITADEL_SELF_SIGNED_CA_CERT_TTL": "48h"}
    found = root_settings(given)
    assert (found.key, found.validity) == (KeyKind(rsa_bits=4096), timedelta(hours=48))
    assert root_settings({}) == DEFAULT_ROOT


@pytest.mark.parametrize(("name", "value"), [("RSA_KEY_SIZE", "512"), ("RSA_KEY_SIZE", "x"), ("CERT_TTL", "soon")])
def test_what_makes_no_sense_ends_istiod(name: str, value: str) -> None:
    with pytest.raises(SystemExit, match="CITADEL_SELF_SIGNED_CA"):
        root_settings({f"CITADEL_SELF_SIGNED_CA_{name}": value})


def test_how_often_keys_are_got() -> None:
    name = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"
    assert [key_refresh(one) for one in ({}, {name: "5m"}, {name: "1ms"})] == [1200, 300, 1]
    with pytest.raises(SystemExit, match=name):
        key_refresh({name: "often"})
