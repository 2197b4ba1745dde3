"""Training's data: the order of an epoch as a pure function, and the stream of batches in that order.

epoch_order.py       the order, for any number of workers, and positions in it
shuffle_quality.py   how well an epoch is shuffled, in numbers
stream.py            one worker's batches, read and decoded by Ray Data
unpaired.py          the same for two domains of different sizes
augmentation.py      random crops and mirror images
aging.py             grey images that look old
labels.py            labels and texts as numbers
pacing.py            pauses in Ray Data's scheduling loop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.streaming.augmentation import Augmentation
    from pipelines.streaming.epoch_order import EpochOrder, OrderConfig, StreamPosition
    from pipelines.streaming.stream import StreamBatch, StreamConfig, TrainingStream
    from pipelines.streaming.unpaired import UnpairedBatch, UnpairedPosition, UnpairedStream, unpaired_plans
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "augmentation": ["Augmentation"],
            "epoch_order": ["EpochOrder", "OrderConfig", "StreamPosition"],
            "stream": ["StreamBatch", "StreamConfig", "TrainingStream"],
            "unpaired": ["UnpairedBatch", "UnpairedPosition", "UnpairedStream", "unpaired_plans"],
        },
    )

__all__ = [
    "Augmentation",
    "EpochOrder",
    "OrderConfig",
    "StreamBatch",
    "StreamConfig",
    "StreamPosition",
    "TrainingStream",
    "UnpairedBatch",
    "UnpairedPosition",
    "UnpairedStream",
    "unpaired_plans",
]
