"""A container as a process."""

import pytest

from mizzen.embedded.box.messages import Mount
from mizzen.embedded.images import Command, Function
from mizzen.embedded.node import container as containers
from mizzen.embedded.node.container import Machine, capabilities, hosts_file, mounts, process, resolv_conf
from mizzen.embedded.node.fields import Unresolved

WEB = Command(entrypoint=["python3", "-m", "http.server"], args=["80"], workdir="/srv/app", env={"MODE": "image"})
POD_WITHOUT_VOLUMES = {"spec": {}}
MACHINE = Machine(python_bin="/venv/bin", function_env={"MIZZEN_CAPTURE": "mark"})


def made(container, image=WEB, env=None, **spec):
    container = {"name": "a", "image": "web:1", **container}
    pod = {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": [container], **spec}}
    return process(pod, container, image, env or {}, [], MACHINE, id="u/a/0", meta={})


def test_the_image_says_what_runs():
    found = made({})
    assert found.argv == ["python3", "-m", "http.server", "80"]
    assert (found.cwd, found.uid, found.sandbox) == ("/srv/app", 0, "u")
    assert found.env["MODE"] == "image" and found.env["PATH"].endswith(":/venv/bin")
    assert "MIZZEN_CAPTURE" not in found.env


def test_command_and_args_override_as_in_kubernetes():
    assert made({"args": ["$(PORT)"]}, env={"PORT": "81"}).argv == ["python3", "-m", "http.server", "81"]
    assert made({"command": ["sh"]}).argv == ["sh"]
    assert made({"command": ["sh"], "args": ["-c", "true"]}).argv == ["sh", "-c", "true"]


def test_a_function_of_ours():
    proxy = Function(function="mizzen.agent.main:main", commands={"pilot-agent": "mizzen.agent.main:main"})
    found = made({"args": ["proxy", "sidecar"]}, image=proxy)
    assert (found.argv, found.function) == (["main", "proxy", "sidecar"], "mizzen.agent.main:main")
    assert found.env["MIZZEN_CAPTURE"] == "mark"
    by_name = made({"command": ["pilot-agent", "version"]}, image=proxy)
    assert (by_name.argv, by_name.function) == (["pilot-agent", "version"], "mizzen.agent.main:main")
    assert made({"command": ["sh"]}, image=proxy).function == ""


def test_variables_of_the_pod_win_over_the_image():
    assert made({}, env={"MODE": "pod"}).env["MODE"] == "pod"


def test_security_context():
    found = made(
        {"securityContext": {"runAsUser": 1337, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}},
        securityContext={"runAsUser": 5, "runAsGroup": 6, "fsGroup": 7, "supplementalGroups": [8]},
    )
    assert (found.uid, found.gid, found.groups) == (1337, 6, [8, 7])
    assert found.read_only_root and found.no_new_privileges
    assert made({"securityContext": {"privileged": True}}).all_capabilities


def test_root_is_refused_where_it_must_not_be():
    with pytest.raises(Unresolved, match="runAsNonRoot"):
        made({"securityContext": {"runAsNonRoot": True}})
    assert made({"securityContext": {"runAsNonRoot": True, "runAsUser": 5}}).uid == 5


def test_capabilities():
    assert capabilities({"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]}) == ["NET_ADMIN", "NET_RAW"]
    assert "NET_ADMIN" not in capabilities({}) and "CHOWN" in capabilities({})
    assert "CHOWN" not in capabilities({"drop": ["CHOWN"]})


def test_mounts():
    container = {
        "volumeMounts": [
            {"name": "v", "mountPath": "/data"},
            {"name": "v", "mountPath": "/data/one", "subPath": "x/y", "readOnly": True},
            {"name": "v", "mountPath": "/mine", "subPathExpr": "$(NAME)"},
        ]
    }
    assert mounts(POD_WITHOUT_VOLUMES, container, WEB, {"v": "/state/v"}, {"NAME": "n"}) == [
        Mount(source="/state/v", target="/data"),
        Mount(source="/state/v", sub_path="x/y", target="/data/one", read_only=True),
        Mount(source="/state/v", sub_path="n", target="/mine"),
        Mount(source="/srv/app", target="/srv/app", read_only=True),
    ]


def test_what_the_node_writes_no_container_changes():
    kinds = [{"configMap": {"name": "c"}}, {"secret": {"secretName": "s"}}, {"projected": {}}, {"downwardAPI": {}}]
    volumes = [{"name": str(number), **kind} for number, kind in enumerate([*kinds, {"emptyDir": {}}])]
    container = {"volumeMounts": [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]}
    sources = {each["name"]: f"/state/{each['name']}" for each in volumes}
    made = mounts({"spec": {"volumes": volumes}}, container, WEB, sources, {})
    assert [each.read_only for each in made[:5]] == [True] * 4 + [False]


@pytest.mark.parametrize("path", ["../x", "a/../../b", "/etc"])
def test_sub_paths_stay_inside(path):
    container = {"volumeMounts": [{"name": "v", "mountPath": "/data", "subPath": path}]}
    with pytest.raises(Unresolved, match="leads out"):
        mounts(POD_WITHOUT_VOLUMES, container, WEB, {"v": "/state/v"}, {})


def test_hosts_and_resolver():
    pod = {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u"},
        "spec": {"subdomain": "web", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["db", "cache"]}]},
    }
    assert "10.244.0.10\tweb-0.web.shop.svc.cluster.local\tweb-0\n" in hosts_file(pod, ["10.244.0.10"])
    assert "1.2.3.4\tdb\tcache\n" in hosts_file(pod, ["10.244.0.10"])
    text = resolv_conf(pod, "10.96.0.10")
    assert (
        text
        == "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    own = {
        **pod,
        "spec": {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "debug"}]}},
    }
    assert resolv_conf(own, "10.96.0.10") == "nameserver 9.9.9.9\noptions debug\n"
    assert resolv_conf({**pod, "spec": {"dnsPolicy": "Default"}}, "10.96.0.10") == "nameserver 10.96.0.10\n"


def test_a_long_name_makes_a_valid_hostname():
    pod = {"metadata": {"name": "x" * 62 + "-y"}, "spec": {}}
    assert containers.hostname(pod) == "x" * 62


def test_where_there_is_one_user_a_proxy_may_mark_its_traffic():
    proxy = Function(function="mizzen.agent.main:main", is_proxy=True)
    container = {"name": "a", "image": "proxyv2:1", "securityContext": {"capabilities": {"drop": ["ALL"]}}}
    pod = {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": [container]}}

    def rights(image, single_user):
        machine = Machine(python_bin="/b", function_env={}, single_user=single_user)
        return process(pod, container, image, {}, [], machine, id="x", meta={}).capabilities

    assert rights(proxy, True) == ["NET_ADMIN"]
    assert rights(proxy, False) == rights(WEB, True) == []
