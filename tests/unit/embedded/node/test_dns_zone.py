import pytest

from mizzen.embedded.node.dns_zone import Record, Zone


def service(name, cluster_ip="10.96.0.7", **spec):
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": cluster_ip, "ports": ports, **spec},
    }


def endpoint_slice(service_name, *endpoints, family="IPv4"):
    return {
        "metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {}, **more} for address, more in endpoints],
    }


ZONE = Zone.of(
    [
        service("web"),
        service("db", "None"),
        service("both", "fd00:10:96::7", clusterIPs=["fd00:10:96::7", "10.96.0.8"]),
        service("outside", None, type="ExternalName", externalName="example.com"),
    ],
    [
        endpoint_slice("web", ("10.244.0.2", {})),
        endpoint_slice(
            "db",
            ("10.244.0.3", {"hostname": "db-0"}),
            ("10.244.0.4", {}),
            ("10.244.0.5", {"conditions": {"ready": False}}),
        ),
        endpoint_slice("db", ("fd00:10:244::3", {"hostname": "db-0"}), ("fd00:10:244::4", {}), family="IPv6"),
    ],
)


def records(name):
    found = ZONE.records(tuple(name.split(".")) if name else ())
    return found if found is None else [(record.type, record.data) for record in found]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.default.svc", [("A", "10.96.0.7")]),
        ("both.default.svc", [("AAAA", "fd00:10:96::7"), ("A", "10.96.0.8")]),
        (
            "db.default.svc",
            [("A", "10.244.0.3"), ("A", "10.244.0.4"), ("AAAA", "fd00:10:244::3"), ("AAAA", "fd00:10:244::4")],
        ),
        ("db-0.db.default.svc", [("A", "10.244.0.3"), ("AAAA", "fd00:10:244::3")]),
        ("10-244-0-4.db.default.svc", [("A", "10.244.0.4")]),
        ("fd00-10-244--4.db.default.svc", [("AAAA", "fd00:10:244::4")]),
        ("outside.default.svc", [("CNAME", "example.com.")]),
        ("_http._tcp.web.default.svc", [("SRV", "0 100 80 web.default.svc.cluster.local.")]),
        ("_dns._udp.web.default.svc", [("SRV", "0 100 53 web.default.svc.cluster.local.")]),
        (
            "_http._tcp.db.default.svc",
            [
                ("SRV", "0 100 80 db-0.db.default.svc.cluster.local."),
                ("SRV", "0 100 80 10-244-0-4.db.default.svc.cluster.local."),
                ("SRV", "0 100 80 fd00-10-244--4.db.default.svc.cluster.local."),
            ],
        ),
        ("10-244-0-9.default.pod", [("A", "10.244.0.9")]),
        ("fd00-10-244--9.default.pod", [("AAAA", "fd00:10:244::9")]),
        ("dns-version", [("TXT", '"1.1.0"')]),
    ],
)
def test_names_have_records(name, expected):
    assert records(name) == expected


@pytest.mark.parametrize("name", ["", "svc", "pod", "default.svc", "_tcp.web.default.svc"])
def test_names_that_others_stand_below_exist_and_hold_nothing(name):
    assert records(name) == []


@pytest.mark.parametrize(
    "name",
    [
        "nope.default.svc",
        "web.other.svc",
        "other.svc",
        "web.default.svc.default.svc",
        "istiod.istio-system.svc.default.svc",
        "db-1.db.default.svc",
        "10-244-0-5.db.default.svc",
        "db-0.web.default.svc",
        "_https._tcp.web.default.svc",
        "_http._udp.web.default.svc",
        "300-0-0-1.default.pod",
        "hello",
    ],
)
def test_other_names_do_not_exist(name):
    assert records(name) is None


def test_addresses_have_names():
    assert ZONE.pointer("10.96.0.7") == (Record("PTR", "web.default.svc.cluster.local."),)
    assert ZONE.pointer("10.244.0.3") == (Record("PTR", "db-0.db.default.svc.cluster.local."),)
    assert ZONE.pointer("192.0.2.1") is None
