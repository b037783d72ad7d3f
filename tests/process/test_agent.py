"""The agent with a real Envoy and a real CA: certificate, SDS, ADS over mutual TLS, readiness, and the end."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from mizzen.agent.settings import CAPTURE_MARK
from mizzen.ca.authority import new_root
from mizzen.nftables.fields import MARK, TCP_DPORT
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import commit
from mizzen.nftables.ruleset import Chain, Hook, Rule, Table, reject_with_reset

pytestmark = [pytest.mark.process, pytest.mark.root]

HERE = Path(__file__).parent


@pytest.fixture
def started():
    processes = []

    def start(*arguments, **options):
        process = subprocess.Popen(arguments, text=True, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


@pytest.fixture
def agent_root():
    """Not below pytest's own folder: a Unix socket's path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        root = Path(folder)
        for inner in ("var/run/secrets/istio", "var/run/secrets/tokens", "etc/istio/pod", "etc/istio/proxy"):
            (root / inner).mkdir(parents=True)
        (root / "etc/istio/pod/labels").write_text('app="web"\n')
        yield root


@pytest.fixture
def istiod(private_network, started, agent_root):
    def start(*somebody_elses_socket):
        folder = agent_root / "istiod"
        folder.mkdir()
        command = (sys.executable, str(HERE / "istiod_stub.py"), str(folder), *map(str, somebody_elses_socket))
        process = started(*command, stdout=subprocess.PIPE)
        assert json.loads(process.stdout.readline()) == {"serving": True}
        (agent_root / "var/run/secrets/istio/root-cert.pem").write_bytes((folder / "root-cert.pem").read_bytes())
        (agent_root / "var/run/secrets/tokens/istio-token").write_bytes((folder / "istio-token").read_bytes())
        return process

    return start


@pytest.fixture
def agent(private_network, started, agent_root):
    def start(**environment):
        injected = {
            "POD_NAME": "web-1",
            "POD_NAMESPACE": "default",
            "INSTANCE_IP": "127.0.0.1",
            "SERVICE_ACCOUNT": "web",
            "CA_ADDR": "localhost:15012",
            "PROXY_CONFIG": '{"concurrency": 1, "discoveryAddress": "localhost:15011"}',
            "MIZZEN_AGENT_ROOT": str(agent_root),
        }
        command = (sys.executable, "-m", "mizzen.agent.main", "proxy", "sidecar")
        with (agent_root / "agent.log").open("w") as log:
            return started(*command, env={**os.environ, **injected, **environment}, stderr=log)

    return start


def get(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError as error:
        return None, str(error)
    finally:
        connection.close()


def wait_for(condition, seconds=15.0):
    give_up = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.02)
    return result


def ready():
    return get(15021, "/healthz/ready")[0] == 200


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_becomes_live_through_mutual_tls_and_leaves_on_sigterm(istiod, agent, agent_root):
    control_plane = istiod()
    process = agent()
    wait_for(ready)
    assert json.loads(control_plane.stdout.readline()) == {"ads": ["spiffe://cluster.local/ns/default/sa/web"]}
    assert get(15020, "/healthz/ready")[0] == 200
    assert "envoy_server_live" in get(15090, "/stats/prometheus")[1]
    assert (agent_root / "var/run/secrets/workload-spiffe-uds/socket").stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_waits_for_a_control_plane_that_comes_later(istiod, agent):
    agent()
    wait_for(lambda: get(15000, "/ready")[0] == 503)
    istiod()
    wait_for(ready)


def test_envoy_dies_with_the_agent(istiod, agent):
    istiod()
    process = agent()
    wait_for(ready)
    (envoy,) = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{envoy}/exe").exists() or "Z" in Path(f"/proc/{envoy}/stat").read_text())


def test_relays_the_exit_code_of_envoy(istiod, agent):
    istiod()
    process = agent()
    wait_for(ready)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=10) == 137


def test_a_wrong_token_leaves_the_proxy_not_ready_and_says_why(istiod, agent, agent_root):
    istiod()
    (agent_root / "var/run/secrets/tokens/istio-token").write_text("forged")
    agent()
    wait_for(lambda: "not the token of this test" in (agent_root / "agent.log").read_text())
    assert get(15021, "/healthz/ready")[0] != 200


def test_quitquitquit_ends_the_proxy_for_jobs(istiod, agent):
    istiod()
    process = agent()
    wait_for(ready)
    assert get(15020, "/quitquitquit", "POST")[0] == 200
    assert process.wait(timeout=10) == 0


def test_certificates_are_renewed_without_a_break(istiod, agent, agent_root):
    istiod()
    agent(SECRET_TTL="4s")
    wait_for(ready)
    wait_for(lambda: (agent_root / "agent.log").read_text().count("received; the next one is due") >= 3)
    assert ready()
    assert get(15000, "/certs")[1].count("spiffe://cluster.local/ns/default/sa/web") == 1


def certificates():
    """How many certificates of authorities Envoy holds, and the serial number of its own."""
    held = json.loads(get(15000, "/certs")[1])["certificates"]
    own = {one["serial_number"] for each in held for one in each["cert_chain"]}
    return len({one["serial_number"] for each in held for one in each["ca_cert"]}), own


def test_new_roots_and_labels_are_followed_and_no_key_is_told(istiod, agent, agent_root):
    istiod()
    agent()
    wait_for(ready)
    _, first = certificates()
    roots = agent_root / "var/run/secrets/istio/root-cert.pem"
    another = new_root("another", datetime.now(UTC), x509.random_serial_number()).to_pem()[0]
    roots.write_bytes(roots.read_bytes() + another)
    wait_for(lambda: certificates()[0] == 2 and certificates()[1] != first)
    _, second = certificates()
    (agent_root / "etc/istio/pod/labels").write_text('app="web"\nversion="v2"\n')
    wait_for(lambda: certificates()[1] != second)
    told = [(agent_root / "agent.log").read_text(), get(15000, "/config_dump")[1], get(15000, "/certs")[1]]
    told += [file.read_text() for file in (agent_root / "etc/istio/proxy").iterdir()]
    assert not [text for text in told if "PRIVATE KEY" in text or "a-projected-token" in text]


def test_rsa_keys_where_they_are_asked_for(istiod, agent, agent_root):
    control_plane = istiod()
    agent(WORKLOAD_RSA_KEY_SIZE="2048")
    wait_for(ready)
    assert json.loads(control_plane.stdout.readline()) == {"ads": ["spiffe://cluster.local/ns/default/sa/web"]}


@pytest.mark.parametrize("name", ["", "spire.sock"])
def test_secrets_that_somebody_else_serves_are_used(istiod, agent, agent_root, name):
    """The agent has no token: it asks nobody for a certificate."""
    folder = agent_root / "var/run/secrets/workload-spiffe-uds"
    folder.mkdir()
    control_plane = istiod(folder / (name or "socket"))
    (agent_root / "var/run/secrets/tokens/istio-token").unlink()
    agent(WORKLOAD_IDENTITY_SOCKET_FILE=name)
    wait_for(ready)
    events = [json.loads(control_plane.stdout.readline()) for _ in range(2)]
    events += [json.loads(control_plane.stdout.readline())] if not any("ads" in event for event in events) else []
    assert {"sds": ["default"]} in events
    assert {"ads": ["spiffe://cluster.local/ns/default/sa/spire"]} in events
    assert "is served by somebody else" in (agent_root / "agent.log").read_text()
    assert [file.name for file in folder.iterdir()] == [name or "socket"], "the agent serves nothing of its own"


def test_somebody_elses_socket_that_is_not_there_is_told(agent, agent_root):
    process = agent(WORKLOAD_IDENTITY_SOCKET_FILE="spire.sock")
    assert process.wait(timeout=20) == 1
    assert "nobody serves" in (agent_root / "agent.log").read_text()


def test_the_mark_is_on_every_call(istiod, agent):
    """Where uid 1337 cannot exist, capture lets pass what carries the mark: Envoy's calls and the agent's own."""
    marked = MARK.is_not(CAPTURE_MARK)
    rules = [Rule(TCP_DPORT.is_(port), marked, reject_with_reset()) for port in (15011, 15012)]
    commit(replace_table(Table("only-marked", (Chain("output", tuple(rules), Hook("filter", "output", 0)),))))
    istiod()
    agent(MIZZEN_CAPTURE="mark")
    wait_for(ready)


def test_request_drains_through_the_agents_port(istiod, agent, agent_root):
    istiod()
    agent()
    wait_for(ready)
    asked = subprocess.run(
        [sys.executable, "-m", "mizzen.agent.main", "request", "--debug-port=15020", "POST", "drain"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == "ok\n"
