"""How many workers fit on which nodes, and what each of them gets."""

import pytest

from condgen.errors import ConfigError
from pipelines.cluster.capacity import Demand, default_wait
from pipelines.cluster.nodes import Node
from pipelines.training.capacity import allowed_counts, choose_count, default_gpus, share_nodes


def node(name: str = "a", cpus: float = 0.0, gpus: float = 0.0, **more: bool) -> Node:
    return Node(id=name, name=name, cpus=cpus, gpus=gpus, **more)


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_training_leaves_decoding_its_share_of_the_cpus(cpus: int, workers: int) -> None:
    shares = share_nodes([node(cpus=cpus)], Demand(least=workers, most=workers), workers)
    assert shares.worker_gpus == 0
    assert workers * (shares.worker_cpus + shares.task_cpus) <= cpus + 1e-6
    assert min(shares.worker_cpus, shares.task_cpus) > 0
    assert shares.threads >= 1


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
def test_a_worker_s_share_is_one_that_its_nodes_have_room_for(workers: int) -> None:
    """Three nodes of a CPU have two CPUs for training, and no node has two."""
    nodes = [node(name, cpus=1) for name in "abc"]
    share = share_nodes(nodes, Demand(least=workers, most=workers), workers).worker_cpus
    assert sum(int(one.cpus / share + 1e-9) for one in nodes) >= workers


def test_each_worker_has_a_gpu_and_decoding_has_the_other_cpus() -> None:
    shares = share_nodes([node(cpus=16, gpus=2)], Demand(least=2, most=2, gpus=1), 2)
    assert (shares.worker_gpus, shares.worker_cpus, shares.task_cpus) == (1, 1, 1)
    crowded = share_nodes([node(cpus=2, gpus=4)], Demand(least=4, most=4, gpus=1), 4)
    assert 4 * (crowded.worker_cpus + crowded.task_cpus) <= 2 + 1e-6


def test_an_elastic_worker_has_a_whole_cpu_and_decoding_has_some() -> None:
    demand = Demand(least=1, most=8)
    small, large = [node(cpus=2)], [node(cpus=2), node("b", cpus=2)]
    assert [demand.fit(nodes) for nodes in (small, large)] == [1, 3]
    shares = share_nodes(large, demand, 3)
    assert (shares.worker_cpus, shares.threads) == (1.0, 1)
    assert 3 * (shares.worker_cpus + shares.task_cpus) <= 4


def test_an_elastic_run_of_one_worker_at_least_fits_on_one_cpu() -> None:
    demand = Demand(least=1, most=4)
    assert demand.fit([node(cpus=1)]) == 1
    shares = share_nodes([node(cpus=1)], demand, 1)
    assert shares.worker_cpus + shares.task_cpus <= 1


def test_no_gpu_of_this_machine_means_cpus_and_a_cluster_always_means_gpus() -> None:
    cpus_alone, with_gpu = [node(cpus=8)], [node(cpus=8, gpus=1)]
    assert default_gpus(cpus_alone, own_cluster=True) == 0
    assert default_gpus(with_gpu, own_cluster=True) == 1
    assert default_gpus(cpus_alone, own_cluster=False) == 1
    assert default_gpus([], own_cluster=False) == 1
    assert default_wait(own_cluster=True) == 0 < default_wait(own_cluster=False)


def only_powers(count: int) -> None:
    if count & (count - 1):
        raise ConfigError("workers", count, "a power of two")


def test_of_a_range_of_workers_those_are_taken_that_the_data_allows() -> None:
    assert allowed_counts(1, 6, only_powers) == [1, 2, 4]
    assert choose_count([1, 2, 4], 3) == 2
    assert choose_count([2, 4], 1) == 0
    with pytest.raises(ConfigError, match="workers: got 7"):
        allowed_counts(5, 7, only_powers)
