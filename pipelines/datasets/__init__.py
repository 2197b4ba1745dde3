"""Datasets on disk: shards with a manifest and an index, the archives that jobs read, and the chunks of both.

opening.py         ``open_dataset`` and ``open_archive``, each called once a job
contents.py        what a place holds: images, shards, Parquet or tables, and what is left out
shard_names.py     how shards are named: names, braces, globs, lists
manifest.py        ``Dataset`` and its manifest
extent.py          samples that one checksum covers, a row of the index each
tar.py             tars: a writer, and a reader that trusts nothing
tar_samples.py     the samples of a part of a tar, checked
scan.py            one look at a tar: its runs, checksums and faults
chunk.py           chunks, and how one is read
chunking.py        indexes and listings cut into chunks, in columns
stored_chunks.py   lists of chunks that are read in pieces
parquet.py         images in a column of a table, Parquet or text
text_table.py      CSV, TSV and JSON lines as Arrow tables, every text as it is
option_texts.py    what is written for an option, and what it means
roles.py           which column of a table is the image, its caption, its key
image_uris.py      where an image is that a table names
row_filter.py      conditions of `--where`
validation.py      everything that can be wrong with a shard
contact_sheet.py   some samples as one image
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
