import pytest
from xdist.scheduler import LoadScopeScheduling

import own_network
from kubectl_stories import clients

own_network.enter()

LONGEST = ("test_running", "test_workloads", "test_typed")
"""Begun first, so that none of them is what everything waits for in the end."""


def pytest_configure(config):
    own_network.configured(config)


class Shared(LoadScopeScheduling):
    """Tests of a file share what they start, so a worker takes them together; stories by their files."""

    def _split_scope(self, nodeid):
        file, _, test = nodeid.partition("::")
        return f"{file}::{test.split('-')[1]}" if file.endswith("test_commands.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Shared(config, log)


def pytest_collection_modifyitems(items):
    order = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module", params=clients(), ids=str)
def client(request):
    return request.param


@pytest.fixture(scope="module")
def home(client, tmp_path_factory):
    """With its own discovery cache."""
    return tmp_path_factory.mktemp("home")
