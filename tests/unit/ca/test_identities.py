import pytest

from mizzen.ca.spiffe import Identity
from mizzen.ca.tokens import BoundPod, Unauthenticated, identify, identity_of, pod_of, token_review


def reviewed(**status):
    answer = {"authenticated": True, "audiences": ["istio-ca"], "user": {"username": "system:serviceaccount:shop:web"}}
    return {"status": {**answer, **status}}


def test_identity_and_uri_are_two_forms_of_one_thing():
    uri = "spiffe://cluster.local/ns/shop/sa/web"
    assert str(Identity.parse(uri)) == uri
    assert Identity.parse(uri) == Identity("cluster.local", "shop", "web")


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://cluster.local/ns/shop/sa/web/more",
        "spiffe://cluster.local/ns/shop",
        "https://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns//sa/web",
        "spiffe://cluster.local/ns/shop/sa/..",
    ],
)
def test_what_is_not_istios_form_is_refused(uri):
    with pytest.raises(ValueError, match=r"SPIFFE|spiffe"):
        Identity.parse(uri)


def test_the_token_says_who_the_caller_is():
    assert identity_of(reviewed(), "cluster.local") == Identity("cluster.local", "shop", "web")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"authenticated": False, "error": "token has expired"}, "token has expired"),
        ({"audiences": ["https://kubernetes.default.svc"]}, "audience istio-ca"),
        ({"audiences": None}, "audience istio-ca"),
        ({"user": {"username": "admin"}}, "not a service account"),
        ({"user": {"username": "system:serviceaccount:shop"}}, "not a service account"),
    ],
)
def test_a_token_that_does_not_prove_a_service_account_is_refused(status, reason):
    with pytest.raises(Unauthenticated, match=reason):
        identity_of(reviewed(**status), "cluster.local")


async def test_the_api_server_is_asked_about_the_audience():
    asked = []

    async def review(document):
        asked.append(document)
        return reviewed()

    await identify(review, "secret", "cluster.local")
    assert asked == [token_review("secret")]
    assert asked[0]["spec"] == {"token": "secret", "audiences": ["istio-ca"]}


def test_the_pod_that_a_token_is_bound_to_is_told():
    extra = {"authentication.kubernetes.io/pod-name": ["web-1"], "authentication.kubernetes.io/pod-uid": ["u"]}
    user = {"username": "system:serviceaccount:shop:web", "extra": extra}
    assert (pod_of(reviewed(user=user)), pod_of(reviewed())) == (BoundPod("web-1", "u"), None)
