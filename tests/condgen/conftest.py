from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are tiny: threads that wait for each other on a busy machine cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def seeded() -> Iterator[None]:
    """What a test draws from torch's own generator is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A part of a real photograph, ``[200, 300, 3]``."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[100:300, 50:350])
