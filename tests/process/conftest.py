import ctypes
import os

import pytest
from pyroute2 import IPRoute

import own_network

own_network.enter()

# Else gRPC ends its threads before every fork and has new ones afterwards: for good in the network of whoever forked.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


LONGEST = ("test_box", "test_node", "test_agent")
"""Begun first, so that none of them is what everything waits for in the end."""


def pytest_configure(config):
    own_network.configured(config)


def pytest_collection_modifyitems(items):
    order = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def private_network():
    """This thread, and what it starts, in a network namespace of their own: nothing of it reaches the machine."""
    if os.geteuid() != 0:
        pytest.skip("a network with links and several users needs root")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
    yield
    assert libc.setns(home, CLONE_NEWNET) == 0
    os.close(home)
