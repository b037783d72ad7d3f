"""The columns of the built-in kinds, by the store's name of the kind."""

from __future__ import annotations

from mizzen.embedded.apiserver.tables.cells import Column
from mizzen.embedded.apiserver.tables.cluster import CLUSTER
from mizzen.embedded.apiserver.tables.network import NETWORK
from mizzen.embedded.apiserver.tables.pods import POD_COLUMNS
from mizzen.embedded.apiserver.tables.workloads import WORKLOADS

COLUMNS: dict[str, tuple[Column, ...]] = {"pods": POD_COLUMNS, **WORKLOADS, **NETWORK, **CLUSTER}
