"""The pool's size, from one core up: what fits the cluster, and what is refused with the reason."""

from typing import Any

import pytest

from condgen.errors import ConfigError
from pipelines.batch.pool_shape import pool_shape


@pytest.mark.parametrize(
    ("resources", "options", "most", "num_cpus", "num_gpus"),
    [
        ({"CPU": 1.0}, {}, 1, 1.0, 0.0),
        ({"CPU": 2.0}, {}, 2, 1.0, 0.0),
        ({"CPU": 2.0}, {"num_chunks": 1}, 1, 1.0, 0.0),
        ({"CPU": 2.0}, {"actors": (4, 4)}, 4, 0.5, 0.0),
        ({"CPU": 16.0}, {"actors": (2, 6)}, 6, 1.0, 0.0),
        ({"CPU": 2.0}, {"actors": (1, 8)}, 8, 1.0, 0.0),  # six wait for room
        ({"CPU": 16.0, "GPU": 2.0}, {}, 2, 1.0, 1.0),
        ({"CPU": 16.0, "GPU": 2.0}, {"num_gpus": 0.5}, 4, 1.0, 0.5),
        ({"CPU": 16.0, "GPU": 2.0}, {"num_gpus": 0.0}, 16, 1.0, 0.0),
        ({"CPU": 16.0, "GPU": 2.0}, {"actors": (1, 8)}, 8, 1.0, 1.0),
        ({"CPU": 16.0, "GPU": 2.0}, {"actors": (3, 8)}, 8, 1.0, 1.0),  # a node with a GPU has gone meanwhile
        ({"CPU": 4.0}, {"num_gpus": 1.0}, 1, 1.0, 1.0),  # the last one has: an actor waits for the next
        ({"CPU": 2.0, "GPU": 4.0}, {}, 4, 0.5, 1.0),
    ],
)
def test_the_pool_fits_the_cluster(
    resources: dict[str, float], options: dict[str, Any], most: int, num_cpus: float, num_gpus: float
) -> None:
    shape = pool_shape(resources, **{"num_chunks": 100, **options})
    assert (shape.most, shape.num_cpus, shape.num_gpus) == (most, num_cpus, num_gpus)


@pytest.mark.parametrize(
    ("resources", "options", "at_once"),
    [
        ({"CPU": 64.0}, {}, 2),  # an actor a core: one chunk is read while the other computes
        ({"CPU": 2.0, "GPU": 1.0}, {}, 2),
        ({"CPU": 16.0, "GPU": 2.0}, {}, 8),
        ({"CPU": 16.0, "GPU": 2.0}, {"actors": (1, 8)}, 8),
        ({"CPU": 16.0, "GPU": 2.0}, {"num_gpus": 0.5}, 4),
        ({"CPU": 64.0, "GPU": 1.0}, {}, 16),
        ({"CPU": 16.0, "GPU": 2.0}, {"num_chunks": 1}, 16),
    ],
)
def test_a_gpu_is_fed_by_its_share_of_the_cores(
    resources: dict[str, float], options: dict[str, Any], at_once: int
) -> None:
    assert pool_shape(resources, **{"num_chunks": 100, **options}).at_once == at_once


def test_a_cluster_without_a_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="at least one CPU"):
        pool_shape({"CPU": 0.0}, num_chunks=100)
