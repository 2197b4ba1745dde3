"""Fixtures of the tests of training on several machines."""

from collections.abc import Iterator

import pytest
from chaos_cluster import ChaosCluster
from machines import Machines


@pytest.fixture
def machines(cluster: ChaosCluster) -> Iterator[Machines]:
    """The module's cluster, without a node at first, and without one at the end."""
    machines = Machines(cluster)
    yield machines
    machines.end()
