"""Datasets as ordinary ``ray.data.Dataset``s: rows of samples with decoded images, and what is done with them.

reading.py      ``read_single``, ``read_paired`` and ``read_unpaired``
operator.py     the first operator: chunks are read and decoded; ``Decode`` says how
local.py        datasets that are iterated as they are, read by threads of their consumer
tasks.py        which chunks a task reads, by their pixels
pairs.py        the plan of two unpaired domains side by side
transforms.py   ``transform``, ``keep`` and ``mix``
counters.py     ``Tally``: counts of what was read, kept and dropped
tensors.py      images in Arrow blocks
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
