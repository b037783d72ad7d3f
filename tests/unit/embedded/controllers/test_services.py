"""Service to EndpointSlice and Endpoints, and the load balancer's address."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mizzen.embedded.controllers.endpoints import slices, subsets
from mizzen.kube import api as kube

if TYPE_CHECKING:
    from .conftest import World

KNOWN = kube.WELL_KNOWN
PODS, SERVICES, SLICES = KNOWN.pods, KNOWN.services, KNOWN.endpointslices


def pod(name: str, port: int = 8080, **spec: Any) -> kube.JSON:
    container = {"name": "c", "ports": [{"name": "web", "containerPort": port}]}
    return {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [container], **spec}}


def service(name: str = "web", **spec: Any) -> kube.JSON:
    ports = [{"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"}]
    selector = {"app": "web"}
    return {"metadata": {"name": name, "labels": {"team": "a"}}, "spec": {"ports": ports, "selector": selector, **spec}}


def endpoints(world: World, name: str = "web") -> dict[str, dict[str, bool]]:
    found = [each for each in world.api.all(SLICES) if each["metadata"]["labels"]["kubernetes.io/service-name"] == name]
    return {entry["targetRef"]["name"]: entry["conditions"] for each in found for entry in each["endpoints"]}


def addresses(world: World, what: str = "addresses") -> list[str]:
    found = world.one(KNOWN.endpoints, "web").get("subsets") or []
    return [each["targetRef"]["name"] for subset in found for each in subset.get(what, ())]


READY = {"ready": True, "serving": True, "terminating": False}


async def test_slice_and_endpoints_exist_when_the_create_is_answered(world: World) -> None:
    await world.apply(SERVICES, service())
    made = world.api.all(SLICES)[0]
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["metadata"]["name"].startswith("web-") and made["addressType"] == "IPv4"
    assert world.one(KNOWN.endpoints, "web")["subsets"] == []


async def test_readiness_reaches_the_slice_within_ten_milliseconds(world: World) -> None:
    await world.apply(SERVICES, service())
    await world.api.create(PODS, pod("a"), "shop")
    await world.until(lambda: endpoints(world).get("a") == READY)
    entry = world.api.all(SLICES)[0]["endpoints"][0]
    assert (entry["nodeName"], entry["zone"], entry["targetRef"]["kind"]) == ("n", "z1", "Pod")
    assert world.api.all(SLICES)[0]["ports"] == [
        {"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "http"}
    ]
    took = []
    for ready in (False, True) * 5:
        await world.idle()
        began = time.perf_counter()
        await world.set_ready(world.one(PODS, "a"), ready)
        await world.until(lambda wanted=ready: endpoints(world)["a"]["ready"] is wanted)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
    assert min(took) < 0.010  # a pause of ours would lengthen all of them, a busy machine does not
    await world.set_ready(world.one(PODS, "a"), False)
    await world.until(lambda: addresses(world) == [] and addresses(world, "notReadyAddresses") == ["a"])


async def test_a_pod_on_its_way_out_serves_but_is_not_ready(world: World) -> None:
    await world.apply(SERVICES, service())
    await world.api.create(PODS, pod("a"), "shop")
    await world.until(lambda: endpoints(world).get("a") == READY)
    world.confirms_deletion = False
    await world.api.delete(PODS, "a", "shop")
    await world.until(lambda: endpoints(world)["a"] == {"ready": False, "serving": True, "terminating": True})
    await world.until(lambda: addresses(world) == [] == addresses(world, "notReadyAddresses"))
    await world.api.delete(PODS, "a", "shop", grace_seconds=0)
    await world.until(lambda: endpoints(world) == {})


async def test_publish_not_ready_addresses(world: World) -> None:
    world.will_be_ready = lambda _: False
    await world.apply(SERVICES, service(publishNotReadyAddresses=True))
    await world.api.create(PODS, pod("a"), "shop")
    await world.until(lambda: endpoints(world).get("a") == {"ready": True, "serving": False, "terminating": False})
    await world.until(lambda: addresses(world) == ["a"])


async def test_a_named_port_may_differ_per_pod(world: World) -> None:
    await world.apply(SERVICES, service())
    await world.api.create(PODS, pod("a", 8080), "shop")
    await world.api.create(PODS, pod("b", 9090), "shop")
    await world.until(lambda: endpoints(world).keys() == {"a", "b"})
    await world.idle()
    found = {each["endpoints"][0]["targetRef"]["name"]: each["ports"][0]["port"] for each in world.api.all(SLICES)}
    assert found == {"a": 8080, "b": 9090}


async def test_headless_service_gives_hosts_their_names(world: World) -> None:
    await world.apply(SERVICES, service("db", clusterIP="None"))
    await world.api.create(PODS, pod("db-0", hostname="db-0", subdomain="db"), "shop")
    await world.until(lambda: endpoints(world, "db").keys() == {"db-0"})
    made = world.api.all(SLICES)[0]
    assert made["endpoints"][0]["hostname"] == "db-0"
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


async def test_selector_changes_and_deletion(world: World) -> None:
    await world.apply(SERVICES, service())
    await world.api.create(PODS, pod("a"), "shop")
    await world.until(lambda: addresses(world) == ["a"])
    await world.api.patch(SERVICES, "web", {"spec": {"selector": {"app": "other"}}}, "shop")
    await world.until(lambda: endpoints(world) == {} and addresses(world) == [])
    await world.api.patch(PODS, "a", {"metadata": {"labels": {"app": "other"}}}, "shop")
    await world.until(lambda: endpoints(world).keys() == {"a"})
    await world.api.delete(SERVICES, "web", "shop")
    await world.until(lambda: not world.api.all(SLICES) and not world.api.all(KNOWN.endpoints))


async def test_services_without_selector_are_left_to_their_users(world: World) -> None:
    await world.api.create(KNOWN.endpoints, {"metadata": {"name": "ext"}, "subsets": []}, "shop")
    await world.apply(SERVICES, service("ext", selector=None))
    await world.idle()
    assert world.api.all(SLICES) == [] and "labels" not in world.one(KNOWN.endpoints, "ext")["metadata"]


async def test_endpoints_that_a_user_wrote_are_mirrored(world: World) -> None:
    ports, ips = [{"name": "http", "port": 80, "protocol": "TCP"}], [{"ip": "192.0.2.7"}]
    written = {"metadata": {"name": "ext"}, "subsets": [{"addresses": ips, "ports": ports}]}
    await world.api.create(KNOWN.endpoints, written, "shop")
    await world.apply(SERVICES, service("ext", selector=None))
    await world.until(lambda: world.api.all(SLICES))
    (mirror,) = world.api.all(SLICES)
    assert mirror["ports"] == ports and mirror["metadata"]["labels"]["kubernetes.io/service-name"] == "ext"
    assert mirror["endpoints"] == [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}]
    await world.api.patch(KNOWN.endpoints, "ext", {"subsets": [{"notReadyAddresses": ips, "ports": ports}]}, "shop")
    await world.until(lambda: world.api.all(SLICES)[0]["endpoints"][0]["conditions"] == {"ready": False})
    await world.api.delete(KNOWN.endpoints, "ext", "shop")
    await world.until(lambda: not world.api.all(SLICES))


async def test_a_slice_that_somebody_broke_is_mended(world: World) -> None:
    await world.apply(SERVICES, service())
    await world.api.create(PODS, pod("a"), "shop")
    await world.until(lambda: endpoints(world).get("a") == READY)
    name = world.api.all(SLICES)[0]["metadata"]["name"]
    await world.api.patch(SLICES, name, {"endpoints": []}, "shop")
    await world.until(lambda: endpoints(world).get("a") == READY)
    await world.api.delete(SLICES, name, "shop")
    await world.until(lambda: endpoints(world).get("a") == READY)


async def test_load_balancer_address_comes_and_goes(world: World) -> None:
    await world.apply(SERVICES, service(type="LoadBalancer"))
    assert world.one(SERVICES, "web")["status"]["loadBalancer"] == {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}
    await world.api.patch(SERVICES, "web", {"spec": {"type": "ClusterIP"}}, "shop")
    await world.until(lambda: world.one(SERVICES, "web")["status"]["loadBalancer"] == {})
    await world.apply(SERVICES, service("both", type="LoadBalancer", ipFamilies=["IPv6", "IPv4"]))
    given = world.one(SERVICES, "both")["status"]["loadBalancer"]["ingress"]
    assert [each["ip"] for each in given] == ["192.0.2.1", "2001:db8::1"]


def running(name: str, ready: bool = True) -> kube.JSON:
    condition = {"type": "Ready", "status": str(ready)}
    made = pod(name) | {"status": {"podIP": "10.0.0.1", "conditions": [condition]}}
    made["metadata"] |= {"namespace": "shop", "uid": name}
    return made


def stored(**spec: Any) -> kube.JSON:
    made = service(**spec) | {"apiVersion": "v1", "kind": "Service"}
    made["metadata"] |= {"namespace": "shop", "uid": "u"}
    return made


def test_a_hundred_endpoints_to_a_slice() -> None:
    pods = [running(f"p{number:03}") for number in range(250)]
    made = slices(stored(), pods, {}, [])
    assert [len(each["endpoints"]) for each in made] == [100, 100, 50]


def test_finished_pods_and_those_without_address_are_no_endpoints() -> None:
    done, young = running("done"), running("young")
    done["status"]["phase"] = "Succeeded"
    del young["status"]["podIP"]
    assert [each["endpoints"] for each in slices(stored(), [done, young], {}, [])] == [[]]
    assert subsets(stored(), [done, young]) == []


def test_the_port_of_a_sidecar_container_counts() -> None:
    made = running("a")
    made["spec"] = {
        "containers": [{"name": "c"}],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 15000}]}
        ],
    }
    assert slices(stored(), [made], {}, [])[0]["ports"][0]["port"] == 15000


def test_each_ip_family_has_slices_of_its_own_and_endpoints_have_the_first() -> None:
    both = {**service(ipFamilies=["IPv6", "IPv4"]), "kind": "Service", "apiVersion": "v1"}
    both["metadata"] |= {"namespace": "shop", "uid": "u"}
    one, two = ({**pod(name), "status": {"podIP": "10.244.0.5"}} for name in ("one", "two"))
    for each in (one, two):
        each["metadata"] |= {"namespace": "shop", "uid": each["metadata"]["name"]}
    one["status"]["podIPs"] = [{"ip": "10.244.0.5"}, {"ip": "fd00:10:244::5"}]
    made = slices(both, [one, two], {}, [])
    found = {each["addressType"]: [entry["addresses"] for entry in each["endpoints"]] for each in made}
    assert found == {"IPv6": [["fd00:10:244::5"]], "IPv4": [["10.244.0.5"], ["10.244.0.5"]]}
    present = [{**each, "metadata": {**each["metadata"], "name": each["addressType"]}} for each in made]
    again = slices(both, [one], {}, present)
    assert [(each["metadata"]["name"], each["addressType"]) for each in again] == [("IPv6", "IPv6"), ("IPv4", "IPv4")]
    (subset,) = subsets(both, [one, two])
    assert [each["ip"] for each in subset["notReadyAddresses"]] == ["fd00:10:244::5"]
