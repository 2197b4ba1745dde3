"""Datasets as ordinary ``ray.data.Dataset``s: rows of samples with decoded images, and what is done with them.

reading.py      ``read_single``, ``read_paired`` and ``read_unpaired``
operator.py     the first operator: chunks are read and decoded; ``Decode`` says how
pairs.py        the plan of two unpaired domains side by side
transforms.py   ``transform``, ``keep`` and ``mix``
counters.py     ``Tally``: counts of what was read, kept and dropped
tensors.py      images in Arrow blocks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.ray_data.counters import Tally
    from pipelines.ray_data.operator import Decode
    from pipelines.ray_data.reading import read_paired, read_single, read_unpaired
    from pipelines.ray_data.transforms import keep, mix, transform
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "counters": ["Tally"],
            "operator": ["Decode"],
            "reading": ["read_paired", "read_single", "read_unpaired"],
            "transforms": ["keep", "mix", "transform"],
        },
    )

__all__ = ["Decode", "Tally", "keep", "mix", "read_paired", "read_single", "read_unpaired", "transform"]
