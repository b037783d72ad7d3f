"""The box's pure parts."""

import ipaddress
import os
import socket
from pathlib import Path

import pytest

from mizzen.embedded.box import addresses, create, daemons, kernel, messages, network, proc, record, rootfs
from mizzen.embedded.box.sandbox import Addresses
from mizzen.embedded.paths import cluster_paths


def networks(*texts):
    return [ipaddress.IPv4Network(text) for text in texts]


def test_the_link_avoids_what_is_in_use():
    assert network.free_link([]) == ("10.245.0.1", "10.245.0.2")
    assert network.free_link(networks("10.245.0.0/30", "192.0.2.0/24")) == ("10.245.0.5", "10.245.0.6")
    assert network.free_link(networks("10.245.0.0/17")) == ("10.245.128.1", "10.245.128.2")
    with pytest.raises(OSError, match="no free /30"):
        network.free_link(networks("10.0.0.0/8"))


def test_an_address_comes_again_only_after_all_others():
    addresses = Addresses(ipaddress.IPv4Network("10.0.0.0/28"))
    first = addresses.take()
    assert first == "10.0.0.10"
    addresses.give_back(first)
    assert [addresses.take() for _ in range(5)] == [f"10.0.0.{number}" for number in (11, 12, 13, 14, 10)]
    with pytest.raises(OSError, match="no Pod address left"):
        addresses.take()


def test_daemons_wait_longer_each_time_and_forget_after_a_steady_run():
    assert daemons.next_wait(0.0, 0.1) == 0.2
    assert daemons.next_wait(0.2, 0.1) == 0.4
    assert daemons.next_wait(8.0, 0.1) == 10.0
    assert daemons.next_wait(8.0, 60.0) == 0.2


def test_a_process_is_known_by_its_start():
    started = proc.start_time(os.getpid())
    assert proc.is_running(os.getpid(), started)
    assert not proc.is_running(os.getpid(), started + 1)
    assert not proc.is_running(2**22 + 1, started)
    with pytest.raises(ProcessLookupError):
        proc.start_time(2**22 + 1)


def test_capabilities_by_name():
    assert kernel.capability_mask(["CHOWN", "CAP_NET_ADMIN"]) == 1 | 1 << 12
    with pytest.raises(ValueError, match="FLY"):
        kernel.capability_mask(["FLY"])


def test_messages_of_any_size_with_descriptors():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for size in (10, 1_000_000):
            process = messages.Process(id="x", sandbox="s", argv=["a" * size])
            reader, writer = os.pipe()
            messages.send(ours, messages.Request(seq=size, op="run", process=process), [writer])
            os.close(writer)
            request, descriptors = messages.receive(theirs, messages.Request)
            assert request.process == process and request.seq == size
            os.write(descriptors[0], b"through")
            messages.close_all(descriptors)
            assert os.read(reader, 100) == b"through"
            os.close(reader)
        ours.close()
        assert messages.receive(theirs, messages.Request) is None


def test_outermost_folders():
    folders = [Path("/a/b/c"), Path("/a/b"), Path("/a/bc"), Path("/x")]
    assert sorted(rootfs.outermost(folders)) == [Path("/a/b"), Path("/a/bc"), Path("/x")]


def test_the_interpreter_is_among_what_containers_share():
    shared = rootfs.python_folders()
    source = Path(messages.__file__)
    assert any(source.is_relative_to(folder) for folder in [*shared, Path("/usr")])


def test_paths(tmp_path):
    paths = cluster_paths("one", tmp_path)
    paths.prepare()
    assert paths.root.stat().st_mode & 0o777 == 0o700
    for name in ("", "UP", "a/b", "..", "x" * 41):
        with pytest.raises(ValueError, match="cannot name a cluster"):
            cluster_paths(name, tmp_path)
    with pytest.raises(ValueError, match="XDG_STATE_HOME"):
        cluster_paths("one", tmp_path / ("d" * 100)).prepare()


def test_a_box_begins_with_little_of_its_starters_environment() -> None:
    own = {"PATH": "/bin", "LC_ALL": "C", "MIZZEN_HOST_PATHS": "/x", "AWS_SECRET_ACCESS_KEY": "s", "GITHUB_TOKEN": "t"}
    assert create.environment(own) == {"PATH": "/bin", "LC_ALL": "C", "MIZZEN_HOST_PATHS": "/x"}


@pytest.mark.parametrize(
    ("asked", "has_ipv6", "expected"),
    [("", True, True), ("", False, False), ("IPv4", True, False), ("IPv4,IPv6", True, True)],
)
def test_ip_families_follow_the_machine_unless_named(asked, has_ipv6, expected):
    assert create.wants_ipv6(asked, has_ipv6=has_ipv6) is expected


def test_ip_families_that_are_none_are_refused():
    with pytest.raises(record.BoxError, match="MIZZEN_IP_FAMILIES is 'IPv6'"):
        create.wants_ipv6("IPv6", has_ipv6=True)


def test_the_second_address_of_a_pod_follows_from_its_first():
    assert addresses.second_address("10.244.1.2") == "fd00:10:244::102"
    assert addresses.mac("10.244.1.2") == "02:00:0a:f4:01:02"
    assert addresses.second_address("10.245.0.6") == "fd00:10:245::6"
