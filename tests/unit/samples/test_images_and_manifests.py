"""The samples' images and YAML: Istio's names to the letter, and every image known."""

from __future__ import annotations

import importlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

import mizzen.samples
from mizzen.samples.images import IMAGES

MANIFESTS = Path(mizzen.samples.__file__).parent / "manifests"
FILES = sorted(MANIFESTS.rglob("*.yaml"))
BOOKINFO = MANIFESTS / "bookinfo"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), yaml.CSafeLoader))


def entries(image: str) -> list[Any]:
    return [entry for glob, entry in IMAGES.items() if fnmatchcase(image, glob)]


@pytest.mark.parametrize(
    ("image", "env"),
    [
        ("docker.io/istio/examples-bookinfo-reviews-v1:1.20.3", {"SERVICE_VERSION": "v1"}),
        (
            "registry.istio.io/release/examples-bookinfo-reviews-v3:1.20.3",
            {"SERVICE_VERSION": "v3", "ENABLE_RATINGS": "true", "STAR_COLOR": "red"},
        ),
        (
            "mizzen/bookinfo-reviews-v2:latest",
            {"SERVICE_VERSION": "v2", "ENABLE_RATINGS": "true", "STAR_COLOR": "black"},
        ),
        ("localhost:5000/examples-bookinfo-productpage-v1:x", {}),
        ("docker.io/istio/examples-helloworld-v2:1.0", {"SERVICE_VERSION": "v2"}),
        ("docker.io/kennethreitz/httpbin:latest", {"PORT": "80", "HTTPBIN_VALUES": "plain"}),
    ],
)
def test_images_by_any_registry_and_tag(image: str, env: dict[str, str]) -> None:
    found = entries(image)
    assert len(found) == 1 and found[0]["env"] == env


def test_functions_exist() -> None:
    for entry in IMAGES.values():
        functions = [entry] if isinstance(entry, str) else [entry["function"], *entry.get("commands", {}).values()]
        for function in functions:
            module, _, name = function.partition(":")
            assert callable(getattr(importlib.import_module(module), name))


def test_every_image_of_the_manifests_is_known() -> None:
    for path in FILES:
        for document in documents(path):
            if document["kind"] == "Deployment":
                for container in document["spec"]["template"]["spec"]["containers"]:
                    image = container["image"]
                    tagged = image if ":" in image else f"docker.io/{image}:latest"
                    assert len(entries(tagged)) == 1, f"{path.name}: {image}"


def test_bookinfo_is_istios() -> None:
    found = {
        (each["kind"], each["metadata"]["name"]): each for each in documents(BOOKINFO / "platform/kube/bookinfo.yaml")
    }
    services = ("details", "ratings", "reviews", "productpage")
    assert {name for kind, name in found if kind == "Service"} == set(services)
    assert {name for kind, name in found if kind == "ServiceAccount"} == {f"bookinfo-{name}" for name in services}
    versions = {"details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3", "productpage-v1"}
    assert {name for kind, name in found if kind == "Deployment"} == versions
    for name in services:
        spec = found["Service", name]["spec"]
        assert spec == {"ports": [{"port": 9080, "name": "http"}], "selector": {"app": name}}
    page = found["Deployment", "productpage-v1"]["spec"]["template"]
    assert page["metadata"]["annotations"]["prometheus.io/port"] == "9080"
    assert page["spec"]["serviceAccountName"] == "bookinfo-productpage"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("virtual-service-reviews-50-v3", {"v1": 50, "v3": 50}),
        ("virtual-service-reviews-80-20", {"v1": 80, "v2": 20}),
        ("virtual-service-reviews-90-10", {"v1": 90, "v2": 10}),
        ("virtual-service-reviews-v2-v3", {"v2": 50, "v3": 50}),
    ],
)
def test_splits(file: str, expected: dict[str, int]) -> None:
    (service,) = documents(BOOKINFO / "networking" / f"{file}.yaml")
    (rule,) = service["spec"]["http"]
    assert {each["destination"]["subset"]: each["weight"] for each in rule["route"]} == expected


def test_every_subset_that_is_routed_to_is_defined() -> None:
    rules = documents(BOOKINFO / "networking/destination-rule-all.yaml")
    defined = {(rule["spec"]["host"], subset["name"]) for rule in rules for subset in rule["spec"]["subsets"]}
    for path in sorted((BOOKINFO / "networking").glob("virtual-service-*.yaml")):
        for service in documents(path):
            for rule in service["spec"]["http"]:
                for each in rule["route"]:
                    used = each["destination"]["host"], each["destination"]["subset"]
                    assert used in defined, f"{path.name}: {used}"


def test_what_the_tutorial_names_is_there() -> None:
    for path in (
        "bookinfo/platform/kube/bookinfo.yaml",
        "bookinfo/networking/bookinfo-gateway.yaml",
        "bookinfo/networking/destination-rule-all.yaml",
        "bookinfo/networking/virtual-service-all-v1.yaml",
        "bookinfo/networking/virtual-service-reviews-50-v3.yaml",
        "addons/addons.yaml",
        "httpbin/httpbin.yaml",
        "sleep/sleep.yaml",
        "helloworld/helloworld.yaml",
        "tcp-echo/tcp-echo-services.yaml",
    ):
        assert documents(MANIFESTS / path)


def test_page_escapes_what_others_say() -> None:
    from mizzen.samples.bookinfo.page import product_page

    reviews = {"podname": "<b>", "clustername": "c1", "reviews": [{"reviewer": "<i>", "text": "<script>"}]}
    html = product_page({"title": "T", "descriptionHtml": ""}, (200, {"author": "<u>"}), (200, reviews), "<user>")
    assert not any(evil in html for evil in ("<script>", "<i>", "<u>", "<user>", ": <b>"))
    assert "Reviews served by: &lt;b&gt; on cluster c1" in html
