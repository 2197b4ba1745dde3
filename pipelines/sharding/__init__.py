"""Making datasets: a source is listed, cut into a plan of shards, written, and made to grow later.

options.py     what a source is taken for, how a dataset is cut, and what becomes of its images
sources.py     records of folders, pairs and halves, and the reader of one image of a record
tables.py      records of a table that lists images or holds them
recipe.py      what becomes of an image: nothing, a smaller one, a half of it, another format
dedup.py       which samples are duplicates of others
assignment.py  from records to the shards that they go to, and from their receipts to a manifest
writer.py      one planned shard made into a tar
growth.py      what a dataset has already when its source is sharded again
indexing.py    the index of a shard that was made elsewhere
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
