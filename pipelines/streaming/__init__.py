"""Training's data: the order of an epoch as a pure function, and the stream of batches in that order.

epoch_order.py       the order, for any number of workers, and positions in it
shuffle_quality.py   how well an epoch is shuffled, in numbers
stream.py            one worker's batches, read and decoded by Ray Data
prefetch.py          items that are made ahead, by a thread
unpaired.py          the same for two domains of different sizes
augmentation.py      random crops and mirror images
aging.py             grey images that look old
labels.py            labels and texts as numbers
pacing.py            pauses in Ray Data's scheduling loop
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
